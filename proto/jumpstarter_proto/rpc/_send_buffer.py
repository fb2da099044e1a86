"""Bytes that wait for the socket, kept so that large ones are never copied on their way."""

from __future__ import annotations

__all__ = ["SendBuffer"]

_SMALL = 8192
_BUFFERS = 64
"""How many pieces one system call takes; far below any system's limit."""


class SendBuffer:
    """A queue of bytes, in order. `size` is how many there are."""

    __slots__ = ("_pieces", "_tail", "size")

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[bytes | bytearray | memoryview] = []
        self._tail = bytearray()
        """Small pieces in a row, put together."""

    def append(self, data: bytes | memoryview) -> None:
        """Queue bytes, which must not change any more."""
        size = len(data)
        self.size += size
        if size < _SMALL:
            self._tail += data
            return
        if self._tail:
            self._pieces.append(self._tail)
            self._tail = bytearray()
        self._pieces.append(data)

    def pieces(self) -> list[bytes | bytearray | memoryview]:
        """What to write first: all of it, or as much as one system call takes."""
        if self._tail:
            self._pieces.append(self._tail)
            self._tail = bytearray()
        return self._pieces[:_BUFFERS]

    def written(self, count: int) -> None:
        """Remove the first `count` bytes of `pieces()`, which were sent."""
        self.size -= count
        pieces = self._pieces
        while count:
            first = pieces[0]
            if len(first) > count:
                pieces[0] = memoryview(first)[count:]
                return
            count -= len(first)
            del pieces[0]

    def take(self, most: int | None = None) -> bytes:
        """Everything in one piece, or the first `most` bytes."""
        if most is not None and self.size > most:
            return self._take_first(most)
        if self._pieces:
            self._pieces.append(self._tail)
            data = b"".join(self._pieces)
            self._pieces.clear()
        else:
            data = bytes(self._tail)
        self._tail = bytearray()
        self.size = 0
        return data

    def _take_first(self, count: int) -> bytes:
        taken: list[bytes | bytearray | memoryview] = []
        left = count
        for piece in self._pieces:
            taken.append(piece if len(piece) <= left else memoryview(piece)[:left])
            left -= len(taken[-1])
            if not left:
                break
        else:
            taken.append(self._tail[:left])
        data = b"".join(taken)
        if left:
            self._pieces.append(self._tail)
            self._tail = bytearray()
        self.written(count)
        return data
