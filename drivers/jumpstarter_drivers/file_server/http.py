"""HTTP for boards that read files, without I/O: GET and HEAD, with ranges (RFC 9110, 9112)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

__all__ = ["BoardRequest", "RequestError", "RequestReader", "head_of", "selected_range"]

MAX_HEAD_BYTES = 16 * 1024
_LINE = re.compile(r"([A-Z]{1,20}) (\S{1,4096}) HTTP/1\.[01]")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_REASONS = {
    200: "OK",
    206: "Partial Content",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    416: "Range Not Satisfiable",
    503: "Service Unavailable",
}


class RequestError(Exception):
    """The request cannot be answered with a file; `status` is the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class BoardRequest:
    """What a board asks for."""

    path: str
    is_head: bool
    range: str = ""


class RequestReader:
    """Collects the head of one request."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> BoardRequest | None:
        """The request, once all of its head is there.

        Raises:
            RequestError: It is none, or not one that this server answers.
        """
        self._buffer += data
        head, end, _ = bytes(self._buffer).replace(b"\r\n", b"\n").partition(b"\n\n")
        if not end:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise RequestError(400, "the head is too long")
            return None
        first, *rest = head.decode("latin-1").split("\n")
        found = _LINE.fullmatch(first)
        if found is None:
            raise RequestError(400, "this is not an HTTP/1 request")
        if found[1] not in ("GET", "HEAD"):
            raise RequestError(405, "this server only sends files")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)
        }
        try:
            # Of `//boot/zImage`, boot is not a host.
            is_path = found[2].startswith("/")
            path = unquote(
                found[2].partition("?")[0] if is_path else urlsplit(found[2]).path, errors="strict"
            )
        except ValueError:
            raise RequestError(400, "the path is invalid") from None
        return BoardRequest(path, found[1] == "HEAD", headers.get("range", ""))


def selected_range(asked: str, size: int) -> tuple[int, int] | None:
    """The first byte and the number of bytes of one range; None: the whole file, also for ranges of another kind.

    Raises:
        RequestError: The file has none of these bytes.
    """
    found = _RANGE.fullmatch(asked.replace(" ", ""))
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        count = min(int(found[2]), size)
        first = size - count
    else:
        first = int(found[1])
        last = min(int(found[2]), size - 1) if found[2] else size - 1
        if found[2] and int(found[2]) < first:
            return None
        count = last - first + 1
    if count <= 0:
        raise RequestError(416, f"the file has {size} bytes")
    return first, count


def head_of(status: int, length: int, *more: str) -> bytes:
    """The head of an answer, after which the connection is closed."""
    lines = [
        f"HTTP/1.1 {status} {_REASONS[status]}",
        f"Content-Length: {length}",
        "Content-Type: application/octet-stream",
        "Accept-Ranges: bytes",
        "Connection: close",
        *more,
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
