"""Bytes that are read in pieces, on their way out of layers of compression: blocking, bounded in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from jumpstarter_proto.encoding import MAX_TRAILING_BYTES, ContentError, Decompressor, Encoding

__all__ = ["DecompressingReader", "PeekReader", "Read", "read_rest"]

Read = Callable[[int], bytes]
"""Blocking: the next bytes, at most as many as asked for; none is the end."""

_FEED_BYTES = 256 * 1024
_FIRST_LOOK_BYTES = 512
"""Of a stream: a sector is the least that says what it is."""
_decompressing = threading.Semaphore(2)
"""Threads that decompress, for the whole process: it is work for the CPU, and small hosts have few."""


class PeekReader:
    """A reader that can be looked into before it is read."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._head = b""
        self._at_end = False

    def peek(self, count: int, is_enough: Callable[[bytes], bool] = lambda _head: False) -> bytes:
        """The next `count` bytes, which `read` gives again; fewer if there are no more, or if they are enough.

        `is_enough` is asked at each doubling, so that a source of tiny pieces costs no more than one of large ones.
        """
        ask_at = _FIRST_LOOK_BYTES
        while len(self._head) < count and not self._at_end:
            if len(self._head) >= ask_at:
                if is_enough(self._head):
                    break
                ask_at = 2 * len(self._head)
            data = self._read(count - len(self._head))
            self._at_end = not data
            self._head += data
        return self._head[:count]

    def push(self, data: bytes) -> None:
        """Give back what was read before; it comes next."""
        self._head = data + self._head

    def read(self, count: int) -> bytes:
        """See Read."""
        if self._head:
            head, self._head = self._head[:count], self._head[count:]
            return head
        return b"" if self._at_end else self._read(count)


class DecompressingReader:
    """What an encoded reader holds. Raises ContentError when it is damaged or cut."""

    def __init__(self, read: Read, encoding: Encoding) -> None:
        self._read = read
        self._codec = Decompressor(encoding)
        self._pieces: Iterator[bytes] = iter(())
        self._rest = memoryview(b"")
        self._at_end = False

    @property
    def trailing(self) -> int:
        """Bytes of other data behind the content; complete at the end."""
        return self._codec.trailing

    @property
    def trailing_end(self) -> bytes:
        """The last of it."""
        return self._codec.trailing_end

    def read(self, count: int) -> bytes:
        """See Read."""
        while not self._rest and not self._at_end:
            with _decompressing:
                piece = next(self._pieces, None)
            if piece is not None:
                self._rest = memoryview(piece)
            elif data := self._read(_FEED_BYTES):
                self._pieces = self._codec.feed(data)
            else:
                self._codec.finish()
                self._at_end = True
        taken, self._rest = self._rest[:count], self._rest[count:]
        return bytes(taken)


def read_rest(read: Read, what: str) -> int:
    """Read to the end what follows `what`: how many bytes of other data it is. Zeros do not count.

    Raises ContentError when there is much of it.
    """
    found = 0
    while data := read(_FEED_BYTES):
        found += len(data) if found else len(data.lstrip(b"\0"))
        if found > MAX_TRAILING_BYTES:
            raise ContentError(
                f"more than {MAX_TRAILING_BYTES} bytes of other data follow {what}; "
                "the file is damaged or joined of several, so check it"
            )
    return found
