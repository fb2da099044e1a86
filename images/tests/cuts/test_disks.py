from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import pytest

from cuts.disks import (
    DATA,
    FAT,
    ROOT,
    Card,
    Partition,
    TableError,
    copy_range,
    partitions,
    root_writes,
    whole,
)
from cuts.power_cut import Cut, draw
from cuts.write_log import DISCARD, FLUSH, WriteLog, packed

SECTOR = 512
FIRST, SIZE, CARD = 8, 16, 80
"""In sectors: where the first partition begins, how large each is, and the card."""


def table(sizes: tuple[int, ...] = (SIZE, SIZE, SIZE), begin: int = FIRST) -> bytes:
    entries = b""
    for size in sizes:
        entries += struct.pack("<8xII", begin if size else 0, size)
        begin += size
    return bytes(446) + entries.ljust(64, b"\0") + b"\x55\xaa"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.img"
    data = bytearray(random.Random(1).randbytes(CARD * SECTOR))
    data[:SECTOR] = table()
    # Holes, also at the end.
    data[20 * SECTOR : 30 * SECTOR] = bytes(10 * SECTOR)
    data[60 * SECTOR :] = bytes(20 * SECTOR)
    path.write_bytes(data)
    return path


def test_partitions_are_read_and_what_is_not_a_table_is_said() -> None:
    assert partitions(table()) == [
        Partition((FIRST + SIZE * number) * SECTOR, SIZE * SECTOR) for number in range(3)
    ]
    for sector, message in (
        (bytes(SECTOR), "not a partition table"),
        (table()[:100], "not a partition table"),
        (table((SIZE, 0, SIZE)), "partition 2 is missing"),
        (table(begin=0), "partition 1 begins within"),
    ):
        with pytest.raises(TableError, match=message):
            partitions(sector)


def random_log(chance: random.Random) -> WriteLog:
    """Writes anywhere, also over the borders of partitions, and a table with a larger last partition."""
    made = [(0, 0, table((SIZE, SIZE, SIZE + 8)))]
    for _ in range(30):
        count = chance.randint(1, 6)
        flags = chance.choice((0, 0, 0, FLUSH, DISCARD))
        made.append((chance.randint(1, CARD - count), flags, chance.randbytes(count * SECTOR)))
    return WriteLog(memoryview(packed(made)))


@pytest.mark.parametrize("seed", range(10))
def test_what_is_checked_are_parts_of_the_disk_that_is_booted(base: Path, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    log = random_log(chance)
    folder = tmp_path / "work"
    folder.mkdir()
    card = Card(base, log, folder)
    places = partitions(table())
    assert card.partitions == places
    assert card.size == CARD * SECTOR
    for cut in sorted((draw(log, chance) for _ in range(12)), key=lambda cut: cut.flushed):
        rebuilt = card.after(cut)
        disk = tmp_path / "whole.img"
        whole(base, log, cut, disk)
        data = disk.read_bytes()
        assert len(data) == CARD * SECTOR
        assert rebuilt.table == data[:SECTOR]
        assert rebuilt.fat.read_bytes() == data[places[FAT].begin : places[FAT].end]
        assert rebuilt.data.read_bytes() == data[places[DATA].begin :]


def test_cuts_come_in_their_order(base: Path, tmp_path: Path) -> None:
    log = WriteLog(memoryview(packed([(9, 0, bytes(SECTOR)), (0, FLUSH, b""), (9, 0, bytes(SECTOR))])))
    folder = tmp_path / "work"
    folder.mkdir()
    card = Card(base, log, folder)
    early, late = (min(found, key=lambda cut: cut.point) for found in _by_flush(log))
    card.after(late)
    with pytest.raises(ValueError, match="in the order of their flushes"):
        card.after(early)


def _by_flush(log: WriteLog) -> tuple[list[Cut], list[Cut]]:
    drawn = [draw(log, random.Random(seed)) for seed in range(50)]
    return [cut for cut in drawn if not cut.flushed], [cut for cut in drawn if cut.flushed]


def test_writes_into_the_root_are_counted() -> None:
    root = partitions(table())[ROOT]
    first, last = root.begin // SECTOR, root.end // SECTOR - 1
    for sector, count, expected in (
        (first - 1, 1, 0),
        (first - 1, 2, 1),
        (first, 1, 1),
        (last, 1, 1),
        (last + 1, 1, 0),
    ):
        log = WriteLog(memoryview(packed([(sector, 0, bytes(count * SECTOR)), (first, FLUSH, b"")])))
        assert root_writes(log, root) == expected


def test_holes_stay_holes(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.seek(5 << 20)
        file.write(b"in the middle")
        file.truncate(64 << 20)
    copy_range(source, Partition(4 << 20, 56 << 20), target)
    assert target.stat().st_size == 56 << 20
    assert target.stat().st_blocks * SECTOR < 1 << 20
    with target.open("rb") as file:
        assert os.pread(file.fileno(), 13, 1 << 20) == b"in the middle"
    copy_range(source, Partition(40 << 20, 8 << 20), target)
    assert target.read_bytes() == bytes(8 << 20)
