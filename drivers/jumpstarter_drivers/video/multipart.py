"""Parses `multipart/x-mixed-replace`, the way in which cameras send pictures one after the other (RFC 2046, 5.1).

Cameras are careless about it: lengths that are wrong, boundaries with or without dashes, lines that end with LF alone.
A part ends where its length says, or at the next boundary if that comes first; once a length was wrong, lengths are
ignored. Bytes in, parts out; what is kept is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple

__all__ = ["MultipartError", "MultipartParser", "Part", "boundary_of"]

MAX_PART_HEADER_BYTES = 16 * 1024
MAX_PREAMBLE_BYTES = 64 * 1024
"""Before the first boundary, and between a part and the next one."""
MAX_BOUNDARY_LENGTH = 200

_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"]*)"|([^;\s]*))', re.IGNORECASE)


class MultipartError(ValueError):
    """No parts can be found in what was sent; the message says why."""


class Part(NamedTuple):
    """One part."""

    headers: Mapping[str, str]
    """Names are in lower case."""
    body: bytes


class _State(Enum):
    PREAMBLE = auto()
    """Before a boundary."""
    HEADER = auto()
    BODY = auto()
    AFTER = auto()
    """Behind a part that was as long as it said; the boundary comes next."""
    ENDED = auto()
    """The last boundary was read."""


def boundary_of(content_type: str) -> str:
    """The boundary that a Content-Type names; empty if it names none."""
    found = _BOUNDARY.search(content_type)
    return "" if found is None else found[1] or found[2] or ""


class MultipartParser:
    """Finds the parts of one stream."""

    def __init__(self, boundary: str, *, max_body_bytes: int) -> None:
        """`boundary` as in the Content-Type; empty takes the first line that begins with two dashes.

        Raises:
            MultipartError: The boundary is too long, or not ASCII.
        """
        if len(boundary) > MAX_BOUNDARY_LENGTH or not boundary.isascii():
            raise MultipartError("its boundary is not valid")
        # Some name it with the dashes that precede it in the stream, some without.
        core = boundary.strip().lstrip("-").encode()
        self._delimiter = b"--" + core if core else b""
        self._max_body = max_body_bytes
        self._buffer = bytearray()
        self._state = _State.PREAMBLE
        self._searched = 0
        self._headers: dict[str, str] = {}
        self._length: int | None = None
        self.lengths_are_wrong = False
        """Whether a part was not as long as its header said."""

    @property
    def has_ended(self) -> bool:
        """Whether the sender said that there are no more parts."""
        return self._state is _State.ENDED

    def feed(self, data: bytes | bytearray) -> list[Part]:
        """The parts that are whole with these bytes.

        Raises:
            MultipartError: A header, a part, or what is between them, is larger than its bound.
        """
        if self._state is _State.ENDED:
            return []
        self._buffer += data
        parts: list[Part] = []
        while self._step(parts):
            pass
        return parts

    def _step(self, parts: list[Part]) -> bool:
        """Parse one element of the buffer; False if that needs more bytes."""
        match self._state:
            case _State.PREAMBLE:
                return self._skip_to_boundary()
            case _State.HEADER:
                return self._read_header()
            case _State.BODY:
                return self._read_body(parts)
            case _State.AFTER:
                return self._expect_boundary()
            case _State.ENDED:
                self._buffer.clear()
                return False

    def _skip_to_boundary(self) -> bool:
        if not self._delimiter and not self._learn_boundary():
            return False
        found = self._find_boundary()
        if found is None:
            # Behind a part whose length was wrong is the rest of it.
            if len(self._buffer) > (self._max_body if self.lengths_are_wrong else MAX_PREAMBLE_BYTES):
                raise MultipartError("there is no boundary in it")
            return False
        self._pass_boundary(*found)
        return True

    def _learn_boundary(self) -> bool:
        # Possessive, as a peer chooses how long a line of dashes is.
        line = re.search(rb"(?:\A|\n)--++([^\r\n]++)\r?\n", self._buffer)
        if line is None:
            if len(self._buffer) > MAX_PREAMBLE_BYTES:
                raise MultipartError("there is no boundary in it")
            return False
        self._delimiter = b"--" + line[1].strip()[:MAX_BOUNDARY_LENGTH]
        return True

    def _read_header(self) -> bool:
        end = re.search(rb"\r?\n\r?\n", self._buffer[: MAX_PART_HEADER_BYTES + 4])
        if end is None:
            if len(self._buffer) > MAX_PART_HEADER_BYTES:
                raise MultipartError("the header of a picture is too large")
            return False
        lines = bytes(self._buffer[: end.start()]).decode("latin-1").splitlines()
        self._headers = {
            name.strip().lower(): value.strip()
            for name, colon, value in (line.partition(":") for line in lines)
            if colon
        }
        del self._buffer[: end.end()]
        length = self._headers.get("content-length", "")
        is_number = length.isascii() and length.isdigit() and len(length) < 12
        self._length = int(length) if is_number and not self.lengths_are_wrong else None
        self._state, self._searched = _State.BODY, 0
        return True

    def _read_body(self, parts: list[Part]) -> bool:
        found = self._find_boundary()
        length = self._length
        there = len(self._buffer) if found is None else found[0]
        if length is not None and length <= there:
            parts.append(Part(self._headers, bytes(self._buffer[:length])))
            del self._buffer[:length]
            self._state, self._searched = _State.AFTER, 0
            return True
        if found is not None:
            start, end = found
            self.lengths_are_wrong |= length is not None
            parts.append(Part(self._headers, bytes(self._buffer[:start])))
            self._pass_boundary(start, end)
            return True
        if len(self._buffer) > self._max_body:
            raise MultipartError(f"a picture is larger than {self._max_body // 1024**2} MiB")
        return False

    def _expect_boundary(self) -> bool:
        """Behind a part: its boundary, before which some cameras put blank lines, and some dashes of their own."""
        window = len(self._delimiter) + MAX_BOUNDARY_LENGTH
        rest = bytes(self._buffer[:window]).lstrip(b"\r\n-")
        core = self._delimiter[2:].lstrip(b"-")
        if core.startswith(rest[: len(core)]):
            found = self._find_boundary() if len(rest) >= len(core) else None
            if found is not None and found[0] < window:
                self._pass_boundary(*found)
                return True
            if found is None and len(self._buffer) < window:
                return False
        self.lengths_are_wrong = True
        self._state, self._searched = _State.PREAMBLE, 0
        return True

    def _find_boundary(self) -> tuple[int, int] | None:
        """Where the next boundary's line begins, with the end of the line before it, and what is behind it."""
        while True:
            at = self._buffer.find(self._delimiter, self._searched)
            if at < 0:
                self._searched = max(0, len(self._buffer) - len(self._delimiter) - 4)
                return None
            self._searched = at
            end = at + len(self._delimiter)
            line_end = self._buffer.find(b"\n", end, end + 80)
            rest = bytes(self._buffer[end : line_end if line_end >= 0 else end + 80]).strip()
            if line_end < 0 and rest == b"-":
                return None
            if rest not in (b"", b"--"):
                self._searched = at + 1
                continue
            if line_end < 0 and rest != b"--":
                return None
            start = at
            while start and self._buffer[start - 1] == ord("-"):
                start -= 1
            if start and self._buffer[start - 1] == ord("\n"):
                start -= 1
                if start and self._buffer[start - 1] == ord("\r"):
                    start -= 1
            return start, line_end + 1 if line_end >= 0 else end + 2

    def _pass_boundary(self, start: int, end: int) -> None:
        is_last = bytes(self._buffer[start:end]).rstrip().endswith(self._delimiter + b"--")
        del self._buffer[:end]
        self._searched = 0
        self._state = _State.ENDED if is_last else _State.HEADER
