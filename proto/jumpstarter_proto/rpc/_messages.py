"""gRPC's message framing: one byte of flags, four of length, then the message."""

from __future__ import annotations

import struct

__all__ = ["Framed", "FramingError", "MessageReader", "frame_header"]

_HEADER = struct.Struct(">BI")


class FramingError(Exception):
    """The peer's bytes are no message that we take: too large, compressed, or cut short."""

    def __init__(self, message: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large


Framed = tuple[bytes, int]
"""A message and how many bytes of the peer's flow-control window it holds."""


def frame_header(length: int) -> bytes:
    """What goes before an uncompressed message of so many bytes."""
    return _HEADER.pack(0, length)


class MessageReader:
    """Puts one direction of one call together from pieces of any size."""

    def __init__(self, max_length: int) -> None:
        self._max_length = max_length
        self._pieces: list[bytes] = []
        self._held = 0
        self._needed: int | None = None
        """Length of the message being read; None while its header is incomplete."""

    @property
    def needs(self) -> int:
        """Bytes still missing from the message being read; 0 between messages."""
        return 0 if self._needed is None else self._needed - self._held

    @property
    def length(self) -> int:
        """Length of the message being read; 0 between messages."""
        return self._needed or 0

    @property
    def is_between_messages(self) -> bool:
        """Whether the stream may end here."""
        return self._needed is None and not self._held

    def feed(self, data: bytes) -> list[Framed]:
        """The messages that `data` completes. Raises FramingError, after which the reader is of no more use."""
        messages: list[Framed] = []
        if self._held == 0 and self._needed is None and len(data) >= _HEADER.size:
            # The usual case: a message or more in one piece, cut out without joining anything.
            data = self._read_whole(data, messages)
        if data:
            self._pieces.append(data)
            self._held += len(data)
        if self._held >= (self._needed if self._needed is not None else _HEADER.size):
            self._read_pieces(messages)
        return messages

    def _read_whole(self, data: bytes, messages: list[Framed]) -> bytes:
        start, end = 0, len(data)
        while end - start >= _HEADER.size:
            length = self._parse(data, start)
            if end - start - _HEADER.size < length:
                break
            body = start + _HEADER.size
            start = body + length
            messages.append((data[body:start], _HEADER.size + length))
        return data[start:] if start else data

    def _read_pieces(self, messages: list[Framed]) -> None:
        while True:
            if self._needed is None:
                if self._held < _HEADER.size:
                    return
                data = b"".join(self._pieces)
                self._needed = self._parse(data, 0)
                self._pieces = [data[_HEADER.size :]]
                self._held -= _HEADER.size
            if self._held < self._needed:
                return
            data = b"".join(self._pieces)
            length, self._needed = self._needed, None
            messages.append((data[:length], _HEADER.size + length))
            rest = data[length:]
            self._pieces = [rest] if rest else []
            self._held = len(rest)

    def _parse(self, data: bytes, start: int) -> int:
        flags, length = _HEADER.unpack_from(data, start)
        if flags:
            raise FramingError("the message is compressed, which was not agreed on; send it as it is")
        if length > self._max_length:
            raise FramingError(
                f"the message has {length} bytes and at most {self._max_length} are taken; send it in parts",
                too_large=True,
            )
        return int(length)
