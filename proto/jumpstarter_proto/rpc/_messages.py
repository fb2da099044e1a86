"""gRPC's message framing: one byte of flags, four of length, then the message."""

from __future__ import annotations

import struct

__all__ = ["Framed", "FramingError", "MessageReader", "frame_header"]

_HEADER = struct.Struct(">BI")
HEADER_BYTES = 5


class FramingError(Exception):
    """The bytes of the peer are not a valid message: too large, compressed, or incomplete."""

    def __init__(self, message: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large


Framed = tuple[bytes, int]
"""A message and how many bytes of the peer's flow-control window it holds."""


def frame_header(length: int) -> bytes:
    """Return the prefix of an uncompressed message of this size."""
    return _HEADER.pack(0, length)


class MessageReader:
    """Puts one direction of one call together from pieces of any size."""

    def __init__(self, max_length: int) -> None:
        self._max_length = max_length
        self._pieces = bytearray()
        self._needed: int | None = None
        """Length of the message being read; None while its header is incomplete."""

    @property
    def held(self) -> int:
        """Bytes of the message being read, without its header once that is complete."""
        return len(self._pieces)

    @property
    def needs(self) -> int:
        """Bytes still missing from the message being read; 0 between messages."""
        return 0 if self._needed is None else self._needed - self.held

    @property
    def is_between_messages(self) -> bool:
        """Whether the stream may end here."""
        return self._needed is None and not self.held

    def feed(self, data: bytes, start: int = 0, stop: int | None = None) -> list[Framed]:
        """The messages that `data[start:stop]` completes.

        Raises FramingError, after which the reader is of no more use.
        """
        messages: list[Framed] = []
        if stop is None:
            stop = len(data)
        if self._needed is None and not self.held:
            # The usual case: a message or more in one piece, cut out without joining anything.
            while stop - start >= HEADER_BYTES:
                body = start + HEADER_BYTES
                length = self._parse(data, start)
                if stop - body < length:
                    break
                start = body + length
                messages.append((data[body:start], HEADER_BYTES + length))
        if start < stop:
            self._pieces += memoryview(data)[start:stop]
            if self.held >= (self._needed if self._needed is not None else HEADER_BYTES):
                self._read_pieces(messages)
        return messages

    def _read_pieces(self, messages: list[Framed]) -> None:
        while True:
            if self._needed is None:
                if self.held < HEADER_BYTES:
                    return
                self._needed = self._parse(self._pieces, 0)
                del self._pieces[:HEADER_BYTES]
            length = self._needed
            if self.held < length:
                return
            with memoryview(self._pieces) as view:
                messages.append((bytes(view[:length]), HEADER_BYTES + length))
            del self._pieces[:length]
            self._needed = None

    def _parse(self, data: bytes | bytearray, start: int) -> int:
        flags, length = _HEADER.unpack_from(data, start)
        if flags:
            raise FramingError(
                "the message is compressed, although no compression was negotiated; send it uncompressed"
            )
        if length > self._max_length:
            raise FramingError(
                f"the message has {length} bytes and at most {self._max_length} are taken; send it in parts",
                too_large=True,
            )
        return int(length)
