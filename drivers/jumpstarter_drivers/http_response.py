"""Parses HTTP/1 responses of untrusted peers: bytes in, status, headers and body out (RFC 9112)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["HttpError", "ResponseHead", "ResponseParser"]

MAX_HEAD_BYTES = 16 * 1024
MAX_CHUNK_LINE_BYTES = 1024


class HttpError(ValueError):
    """The peer did not send an HTTP response; the message says why."""


@dataclass(frozen=True)
class ResponseHead:
    """What precedes the body."""

    status: int
    headers: Mapping[str, str]
    """Names are in lower case. Values of headers with the same name are joined by ", "."""

    @property
    def content_type(self) -> str:
        """The media type in lower case, without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class ResponseParser:
    """Reads one response, to a request with `method`."""

    def __init__(self, method: str = "GET") -> None:
        self._method = method
        self.head: ResponseHead | None = None
        """Once all of it is there."""
        self.has_ended = False
        """Whether the body has come to the end that its header gave it."""
        self._buffer = bytearray()
        self._is_chunked = False
        self._left: int | None = None
        """Bytes of the body, or of the chunk, that are still to come; None until the connection ends."""
        self._is_in_trailer = False

    def feed(self, data: bytes | bytearray) -> bytes:
        """Parse bytes; returns the part of the body in them.

        Raises:
            HttpError: The bytes are not HTTP, or the head is too large.
        """
        self._buffer += data
        while self.head is None:
            if not self._read_head():
                return b""
        if self._is_chunked:
            return self._read_chunks()
        return self._take()

    def end(self) -> None:
        """Handle the end of the connection.

        Raises:
            HttpError: A part of the response is missing.
        """
        if self.head is None:
            raise HttpError("the connection ended before its answer")
        if (self._is_chunked and not self.has_ended) or self._left:
            raise HttpError("the connection ended in the middle")
        self.has_ended = True

    def _read_head(self) -> bool:
        """Take one head out of the buffer; False while it is not all there."""
        end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES + 4)
        width = 4
        if end < 0:
            end, width = self._buffer.find(b"\n\n", 0, MAX_HEAD_BYTES + 2), 2
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise HttpError("the header of its answer is too large")
            if not b"HTTP/1.".startswith(self._buffer[:7]):
                raise HttpError("it does not speak HTTP")
            return False
        lines = bytes(self._buffer[:end]).decode("latin-1").splitlines()
        del self._buffer[: end + width]
        version, _, rest = (lines[0] if lines else "").partition(" ")
        status = rest[:3]
        if not version.startswith("HTTP/1.") or not (
            status.isascii() and status.isdigit() and len(status) == 3
        ):
            raise HttpError("it does not speak HTTP")
        if status == "100":
            return True  # the response comes behind it
        if status.startswith("1"):
            raise HttpError(f"it answers {status}, which was not requested")
        self.head = ResponseHead(int(status), _headers(lines[1:]))
        self._expect_body(self.head)
        return True

    def _expect_body(self, head: ResponseHead) -> None:
        coding = head.headers.get("transfer-encoding", "").lower()
        length = head.headers.get("content-length", "")
        if head.status in (204, 304) or self._method == "HEAD":
            self.has_ended = True
        elif coding not in ("", "identity", "chunked"):
            raise HttpError(f"it sends with the transfer encoding {coding[:40]!r}")
        elif coding == "chunked":
            self._is_chunked, self._left = True, 0
        elif length:
            if not (length.isascii() and length.isdigit() and len(length) < 19):
                raise HttpError(f"it says that its answer has {length[:40]!r} bytes")
            self._left = int(length)
            self.has_ended = self._left == 0

    def _take(self) -> bytes:
        """Return the buffered part of the body."""
        if self.has_ended:
            self._buffer.clear()
            return b""
        data = bytes(self._buffer if self._left is None else self._buffer[: self._left])
        del self._buffer[: len(data)]
        if self._left is not None:
            self._left -= len(data)
            self.has_ended = self._left == 0
        return data

    def _read_chunks(self) -> bytes:
        body = bytearray()
        while not self.has_ended and self._buffer:
            if self._left:
                data = self._buffer[: self._left]
                del self._buffer[: len(data)]
                self._left -= len(data)
                body += data
                continue
            line = self._line()
            if line is None:
                break
            if self._is_in_trailer:
                self.has_ended = not line
            elif line:  # a chunk is followed by an empty line
                self._left = _chunk_size(line)
                self._is_in_trailer = self._left == 0
        if self.has_ended:
            self._buffer.clear()
        return bytes(body)

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\n", 0, MAX_CHUNK_LINE_BYTES)
        if end < 0:
            if len(self._buffer) >= MAX_CHUNK_LINE_BYTES:
                raise HttpError("the size of a chunk is not a number")
            return None
        line = bytes(self._buffer[:end]).strip()
        del self._buffer[: end + 1]
        return line


def _headers(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or name != name.strip():
            continue  # neither a header nor a peer that is worth an error
        name, value = name.lower(), value.strip()
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    if not digits or len(digits) > 8 or digits.strip(b"0123456789abcdefABCDEF"):
        raise HttpError("the size of a chunk is not a number")
    return int(digits, 16)
