from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from cuts.power_cut import Cut, cut_at, draw, pieces
from cuts.write_log import DISCARD, FLUSH, FUA, WriteLog, packed

SECTOR = 512
SECTORS = 6
WHOLE = SECTORS * SECTOR

Request = tuple[int, int, int]
"""Flags, sector, number of sectors."""


@st.composite
def requests(draw_one: st.DrawFn) -> Request:
    flags = draw_one(st.sampled_from([0, 0, 0, FUA, FLUSH, FLUSH | FUA, DISCARD]))
    sector = draw_one(st.integers(0, SECTORS - 1))
    count = draw_one(st.integers(0 if flags & FLUSH else 1, SECTORS - sector))
    return flags, sector, count


def contents(number: int, sector: int) -> bytes:
    """What the request of this number writes there: nothing else is the same."""
    return bytes([number + 1, sector]) * (SECTOR // 2)


def log_of(made: list[Request]) -> WriteLog:
    return WriteLog(
        memoryview(
            packed(
                [
                    (sector, flags, b"".join(contents(number, sector + at) for at in range(count)))
                    for number, (flags, sector, count) in enumerate(made)
                ]
            )
        )
    )


def disk_after(log: WriteLog, cut: Cut, base: bytes = bytes(WHOLE)) -> bytes:
    disk = bytearray(base)
    for piece in pieces(log, cut):
        disk[piece.offset : piece.offset + len(piece.data)] = piece.data
    assert len(disk) == len(base)
    return bytes(disk)


def allowed(made: list[Request], point: int, sector: int) -> set[bytes]:
    """The model, for each sector alone: what is on the disk for sure, or a later write that nothing durable covers."""
    sure = bytes(SECTOR)
    later: list[bytes] = []
    for number, (flags, first, count) in enumerate(made[:point]):
        if flags & FLUSH:
            sure, later = (later[-1] if later else sure), []
        if first <= sector < first + count:
            said = bytes(SECTOR) if flags & DISCARD else contents(number, sector)
            if flags & FUA:
                sure, later = said, []
            else:
                later.append(said)
    return {sure, *later}


@given(st.lists(requests(), max_size=8), st.data(), st.integers())
def test_each_sector_has_what_a_disk_may_have(made: list[Request], data: st.DataObject, seed: int) -> None:
    log = log_of(made)
    point = data.draw(st.integers(0, len(made)))
    disk = disk_after(log, cut_at(log, point, random.Random(seed)))
    for sector in range(SECTORS):
        assert disk[sector * SECTOR :][:SECTOR] in allowed(made, point, sector)


@given(st.lists(requests(), max_size=8), st.integers())
def test_a_cut_is_the_same_for_the_same_seed_and_goes_on_from_a_disk_in_between(
    made: list[Request], seed: int
) -> None:
    log = log_of(made)
    cut = draw(log, random.Random(seed))
    assert cut == draw(log, random.Random(seed))
    assert 0 <= cut.flushed <= cut.point <= len(made)
    for since in range(cut.flushed + 1):
        disk = bytearray(WHOLE)
        for number in range(since):
            entry = log.entries[number]
            disk[entry.sector * SECTOR : (entry.sector + entry.count) * SECTOR] = log.written(
                entry, 0, entry.count
            )
        for piece in pieces(log, cut, since):
            disk[piece.offset : piece.offset + len(piece.data)] = piece.data
        assert bytes(disk) == disk_after(log, cut)


def outcomes(made: list[Request], point: int, seeds: int = 3000) -> set[bytes]:
    log = log_of(made)
    return {disk_after(log, cut_at(log, point, random.Random(seed))) for seed in range(seeds)}


def test_every_outcome_comes_for_some_seed() -> None:
    # Two writes that overlap, each of two sectors: three sectors, of which the middle one has three versions.
    made = [(0, 0, 2), (0, 1, 2)]
    found = outcomes(made, 2)
    choices = [sorted(allowed(made, 2, sector)) for sector in range(3)]
    assert [len(choice) for choice in choices] == [2, 3, 2]
    assert found == {
        a + b + c + bytes(3 * SECTOR) for a in choices[0] for b in choices[1] for c in choices[2]
    }


def test_nothing_is_lost_that_was_flushed_or_written_through() -> None:
    first, second = contents(0, 0), contents(1, 0)
    assert outcomes([(0, 0, 1), (FLUSH, 0, 0)], 2) == {first + bytes(WHOLE - SECTOR)}
    assert outcomes([(FUA, 0, 1)], 1) == {first + bytes(WHOLE - SECTOR)}
    # An older write in the disk's cache does not come out over one that went through.
    assert outcomes([(0, 0, 1), (FUA, 0, 1)], 2) == {second + bytes(WHOLE - SECTOR)}
    # A flush with data is a flush before it, and a write as any other.
    assert {one[:SECTOR] for one in outcomes([(0, 0, 1), (FLUSH, 0, 1)], 2)} == {first, second}


def test_a_write_is_torn_between_sectors_only() -> None:
    found = outcomes([(0, 0, 3)], 1)
    assert len(found) == 8
    parts = [{bytes(SECTOR), contents(0, sector)} for sector in range(3)]
    assert all(one[at * SECTOR :][:SECTOR] in parts[at] for one in found for at in range(3))


def test_cuts_are_drawn_in_every_time_between_flushes_also_in_short_ones() -> None:
    made: list[Request] = [(0, 0, 1)] * 100 + [(FLUSH, 0, 0), (0, 1, 1), (FLUSH, 0, 0)]
    log = log_of(made)
    points = [draw(log, random.Random(seed)).point for seed in range(400)]
    assert min(points) < 20
    # The short one is 2 of 103 entries, and a third of the cuts.
    assert sum(point > 101 for point in points) > 60


def test_a_third_of_the_cuts_are_where_somebody_wants_them() -> None:
    log = log_of([(0, 0, 1), (FLUSH, 0, 0)] * 50)
    points = [draw(log, random.Random(seed), [(10, 12)]).point for seed in range(300)]
    assert sum(10 <= point <= 12 for point in points) > 80
    assert len(set(points)) > 60
