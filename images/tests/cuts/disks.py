"""Make disks in the state after power cuts, from the first state of the card and the log of its writes.

The card's durable part is kept in one file that goes on from cut to cut, so cuts come in the order of their flushes.
What is checked are copies of its partitions, which are mostly holes. The root, which is mounted read-only, is not
copied: a write into it is a fault, and without one it is what it was.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cuts.power_cut import Cut, Piece, pieces
from cuts.write_log import WriteLog

__all__ = [
    "DATA",
    "FAT",
    "ROOT",
    "Card",
    "Partition",
    "Rebuilt",
    "TableError",
    "copy_range",
    "partitions",
    "root_writes",
    "whole",
    "work_folder",
]

SECTOR_BYTES = 512
ROOM_BYTES = 6 << 30
"""Free memory from which on the disks are kept in memory."""
_ENTRY = struct.Struct("<8xII")
FAT, ROOT, DATA = 0, 1, 2
"""The places of our partitions in the table."""


class TableError(ValueError):
    """The partition table cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition, in bytes from the begin of the disk."""

    begin: int
    size: int

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.begin + self.size


def partitions(sector: bytes) -> list[Partition]:
    """The three partitions of a card, from its first sector.

    Raises:
        TableError: see there.
    """
    if len(sector) < SECTOR_BYTES or sector[510:512] != b"\x55\xaa":
        raise TableError("the first sector is not a partition table")
    found = [
        Partition(begin * SECTOR_BYTES, size * SECTOR_BYTES)
        for begin, size in (_ENTRY.unpack_from(sector, 446 + 16 * number) for number in range(3))
    ]
    end = SECTOR_BYTES
    for number, partition in enumerate(found, 1):
        if not partition.size:
            raise TableError(f"partition {number} is missing")
        if partition.begin < end:
            raise TableError(f"partition {number} begins within what is before it")
        end = partition.end
    return found


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A disk after a cut: the first sector, and files with the FAT partition and the data partition."""

    table: bytes
    fat: Path
    data: Path
    fat_writes: tuple[object, ...]
    """The writes that reached the FAT partition. Equal writes mean an equal partition."""


class Card:
    """The card of a recording, in its state after any cut.

    Args:
        base: The card as it was when the recording began.
        log: What was written then.
        folder: For files; as large as what is written on the card.
    """

    def __init__(self, base: Path, log: WriteLog, folder: Path) -> None:
        self.log = log
        self._durable = folder / "durable.img"
        self._folder = folder
        self._since = 0
        self._fat_entries = 0
        with base.open("rb") as given, self._durable.open("wb") as made:
            self.size = given.seek(0, os.SEEK_END)
            given.seek(0)
            self.partitions = partitions(given.read(SECTOR_BYTES))
            made.truncate(self.size)
            for place in (Partition(0, SECTOR_BYTES), self.partitions[FAT], self._rest):
                _copy_data(given.fileno(), place, made.fileno(), 0)

    @property
    def _rest(self) -> Partition:
        """From the begin of the data partition to the end of the card."""
        begin = self.partitions[DATA].begin
        return Partition(begin, self.size - begin)

    def after(self, cut: Cut) -> Rebuilt:
        """The disk after this cut; the files are the ones of the cut before, overwritten.

        ``cut`` has at least as many flushed entries as the one before.
        """
        if cut.flushed < self._since:
            raise ValueError("cuts are to come in the order of their flushes")
        sure = Cut(cut.flushed, cut.flushed, ())
        with self._durable.open("r+b") as file:
            _write(file.fileno(), pieces(self.log, sure, self._since))
        places = self.partitions
        self._fat_entries += sum(
            self._touches(number, places[FAT]) for number in range(self._since, cut.flushed)
        )
        self._since = cut.flushed
        later = list(pieces(self.log, cut, cut.flushed))
        table = self._folder / "table.img"
        with self._durable.open("rb") as file:
            table.write_bytes(file.read(SECTOR_BYTES))
        self._part(table, Partition(0, SECTOR_BYTES), later)
        on_fat = [landed for landed in cut.landed if self._touches(landed.number, places[FAT])]
        rebuilt = Rebuilt(
            table.read_bytes(),
            self._folder / "fat.img",
            self._folder / "data.img",
            (self._fat_entries, *on_fat),
        )
        for file_, place in ((rebuilt.fat, places[FAT]), (rebuilt.data, self._rest)):
            copy_range(self._durable, place, file_)
            self._part(file_, place, later)
        return rebuilt

    def _touches(self, number: int, place: Partition) -> bool:
        entry, size = self.log.entries[number], self.log.sector_bytes
        begin = entry.sector * size
        return bool(entry.count) and begin < place.end and begin + entry.count * size > place.begin

    def _part(self, path: Path, place: Partition, later: Iterable[Piece]) -> None:
        with path.open("r+b") as file:
            for piece in later:
                begin = max(piece.offset, place.begin)
                end = min(piece.offset + len(piece.data), place.end)
                if begin < end:
                    data = piece.data[begin - piece.offset : end - piece.offset]
                    os.pwrite(file.fileno(), data, begin - place.begin)


def root_writes(log: WriteLog, root: Partition) -> int:
    """The number of writes into the root."""
    size = log.sector_bytes
    return sum(
        entry.sector * size < root.end and (entry.sector + entry.count) * size > root.begin
        for entry in log.entries
        if entry.count
    )


def whole(base: Path, log: WriteLog, cut: Cut, disk: Path) -> None:
    """Write the whole disk as it is after a cut, to be booted."""
    _copy(base, disk)
    with disk.open("r+b") as file:
        _write(file.fileno(), pieces(log, cut))


def _write(descriptor: int, written: Iterable[Piece]) -> None:
    for piece in written:
        # ext4 fills unused space with zeros; where the file has holes, keep them.
        if piece.data[:512] == bytes(512) and not any(piece.data) and _is_hole(descriptor, piece):
            continue
        os.pwrite(descriptor, piece.data, piece.offset)


def _is_hole(descriptor: int, piece: Piece) -> bool:
    end = piece.offset + len(piece.data)
    try:
        return os.lseek(descriptor, piece.offset, os.SEEK_DATA) >= end and os.fstat(descriptor).st_size >= end
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return os.fstat(descriptor).st_size >= end


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", str(source), str(target)], check=True)


def copy_range(source: Path, place: Partition, target: Path) -> None:
    """Copy a part of a file into a new file, with the same holes."""
    with source.open("rb") as given, target.open("wb") as made:
        made.truncate(place.size)
        _copy_data(given.fileno(), place, made.fileno(), place.begin)


def _copy_data(given: int, place: Partition, made: int, less: int) -> None:
    """What is no hole, to its place ``less`` so many bytes."""
    at = place.begin
    while at < place.end:
        try:
            at = os.lseek(given, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # holes up to the end
                raise
            return
        hole = min(os.lseek(given, at, os.SEEK_HOLE), place.end)
        while at < hole:
            data = os.pread(given, min(hole - at, 1 << 20), at)
            os.pwrite(made, data, at - less)
            at += len(data)


@contextmanager
def work_folder() -> Iterator[Path]:
    """A folder for as long as it is used; in memory, if there is enough: a thousand disks are gigabytes of writes."""
    path = Path(tempfile.mkdtemp(prefix="cuts-", dir=_roomy()))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _roomy() -> Path | None:
    memory = Path("/dev/shm")
    try:
        available = re.search(r"^MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
        room = min(shutil.disk_usage(memory).free, int(available[1]) * 1024 if available else 0)
    except OSError:
        return None
    return memory if room > ROOM_BYTES else None
