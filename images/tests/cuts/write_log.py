"""The log of a disk's writes as QEMU's driver blklogwrites makes it: the format of Linux's device mapper, version 1.

All numbers are little-endian. One sector has the magic number, the version, the number of entries and the size of the
log's sectors. Each entry is a sector with its head, then the data of its write, in whole sectors. An entry stands where
its write was completed, a flush where it was begun (if nothing below it waits): a flush covers what stands before it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["DISCARD", "FLUSH", "FUA", "MARK", "Entry", "WriteLog", "WriteLogError", "packed"]

MAGIC = 0x6A736677736872
VERSION = 1
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
_SUPER = struct.Struct("<QQQI")
_HEAD = struct.Struct("<QQQQ")
MAX_SECTOR_BYTES = 1 << 23


class WriteLogError(ValueError):
    """The file is not a write log, or it is damaged; the message says where."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One request of the disk's user."""

    sector: int
    count: int
    """Of sectors; 0 for a flush alone."""
    flags: int
    head: int
    """The byte of the log at which it begins."""
    data: int
    """The byte of the log at which the data begins; the log has none of a discard."""

    @property
    def is_flush(self) -> bool:
        """Whether all that was completed before it is on the disk."""
        return bool(self.flags & FLUSH)

    @property
    def is_durable(self) -> bool:
        """Whether its own data is on the disk when it is completed (FUA)."""
        return bool(self.flags & FUA)

    @property
    def is_discard(self) -> bool:
        """Whether it says that nobody needs these sectors any more."""
        return bool(self.flags & DISCARD)


class WriteLog:
    """A log that was read.

    Args:
        raw: All of its bytes; a file's, if it is mapped.

    Raises:
        WriteLogError: see there.
    """

    def __init__(self, raw: memoryview) -> None:
        self._raw = raw
        if len(raw) < _SUPER.size:
            raise WriteLogError(f"the log has {len(raw)} bytes, which is too short for a log of writes")
        magic, version, count, self.sector_bytes = _SUPER.unpack_from(raw)
        if magic != MAGIC or version != VERSION:
            raise WriteLogError("this is not a log of writes of version 1")
        size = self.sector_bytes
        if not 512 <= size <= MAX_SECTOR_BYTES or size & (size - 1):
            raise WriteLogError(
                f"the log has sectors of {size} bytes, which is not a power of two from 512 on"
            )
        if len(raw) < size:
            raise WriteLogError("the log ends within its first sector")
        self.entries = list(self._read(count))

    def _read(self, count: int) -> Iterator[Entry]:
        size = self.sector_bytes
        at = size
        for number in range(count):
            if at + _HEAD.size > len(self._raw):
                raise WriteLogError(f"the log ends before entry {number} of {count}")
            sector, sectors, flags, more = _HEAD.unpack_from(self._raw, at)
            if flags & ~(FLUSH | FUA | DISCARD | MARK):
                raise WriteLogError(f"entry {number} has unknown flags {flags:#x}")
            entry = Entry(sector, sectors, flags, at, at + size)
            at += size
            if flags & MARK:
                # Its text is in the sector of its head.
                if sectors or more > size - _HEAD.size:
                    raise WriteLogError(f"entry {number} is a mark that is too long")
            elif not entry.is_discard:
                at += sectors * size
            if at > len(self._raw):
                raise WriteLogError(f"the log ends within entry {number} of {count}")
            yield entry

    def written(self, entry: Entry, first: int, count: int) -> bytes | memoryview:
        """What an entry has for sectors, the ``first`` being 0; zeros for those that it discards."""
        size = self.sector_bytes
        if entry.is_discard:
            return bytes(count * size)
        return self._raw[entry.data + first * size : entry.data + (first + count) * size]

    def entries_before(self, head: int) -> int:
        """How many entries begin before this byte of the log."""
        return sum(entry.head < head for entry in self.entries)

    def flushes(self) -> list[int]:
        """The numbers of the entries that flush."""
        return [number for number, entry in enumerate(self.entries) if entry.is_flush]

    def epochs(self) -> list[tuple[int, int]]:
        """From one flush to the next: the first entry and the one after the last, as for `range`."""
        ends = [0, *(number + 1 for number in self.flushes()), len(self.entries)]
        return [(begin, end) for begin, end in pairwise(ends) if end > begin]

    def epochs_writing_before(self, sector: int) -> list[tuple[int, int]]:
        """Those of the epochs with a write that begins before this sector."""
        return [
            (begin, end)
            for begin, end in self.epochs()
            if any(entry.count and entry.sector < sector for entry in self.entries[begin:end])
        ]


def packed(writes: list[tuple[int, int, bytes]], sector_bytes: int = 512) -> bytes:
    """A log of these requests: sector, flags, and data in whole sectors (of a discard: zeros, for their number)."""
    made = [_SUPER.pack(MAGIC, VERSION, len(writes), sector_bytes).ljust(sector_bytes, b"\0")]
    for sector, flags, data in writes:
        made.append(
            _HEAD.pack(sector, len(data) // sector_bytes, flags, 0).ljust(sector_bytes, b"\0")
            + (b"" if flags & DISCARD else data)
        )
    return b"".join(made)
