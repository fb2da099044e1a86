from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cuts.write_log import DISCARD, FLUSH, FUA, MARK, WriteLog, WriteLogError, packed

SECTOR = 512
requests = st.lists(
    st.tuples(
        st.integers(0, 1 << 40),
        st.sampled_from([0, FUA, FLUSH, FLUSH | FUA, DISCARD]),
        st.binary(max_size=4).map(lambda some: b"".join(bytes([byte]) * SECTOR for byte in some)),
    )
)


@given(requests)
def test_a_log_is_read_as_it_was_written(written: list[tuple[int, int, bytes]]) -> None:
    log = WriteLog(memoryview(packed(written)))
    assert log.sector_bytes == SECTOR
    assert len(log.entries) == len(written)
    for entry, (sector, flags, data) in zip(log.entries, written, strict=True):
        assert (entry.sector, entry.flags, entry.count) == (sector, flags, len(data) // SECTOR)
        expected = bytes(len(data)) if flags & DISCARD else data
        assert log.written(entry, 0, entry.count) == expected
        if entry.count > 1:
            assert log.written(entry, 1, 1) == expected[SECTOR : 2 * SECTOR]


@given(requests)
def test_epochs_are_all_entries_each_with_the_flush_at_its_end(written: list[tuple[int, int, bytes]]) -> None:
    log = WriteLog(memoryview(packed(written)))
    epochs = log.epochs()
    assert [number for begin, end in epochs for number in range(begin, end)] == list(range(len(written)))
    for begin, end in epochs:
        assert not any(entry.is_flush for entry in log.entries[begin : end - 1])


def test_epochs_that_write_before_a_sector_are_told() -> None:
    data = b"a" * SECTOR
    made = [(100, 0, data), (0, FLUSH, b""), (9, 0, data), (0, FLUSH, b""), (10, 0, data)]
    log = WriteLog(memoryview(packed(made)))
    assert log.epochs() == [(0, 2), (2, 4), (4, 5)]
    assert log.epochs_writing_before(10) == [(2, 4)]


@given(requests, st.integers(0, 10_000))
@example([], 40)
@example([(0, FLUSH, b"")], 1000)
def test_a_log_that_is_cut_off_is_not_a_log(written: list[tuple[int, int, bytes]], length: int) -> None:
    raw = packed(written)
    if length < len(raw):
        with pytest.raises(WriteLogError):
            WriteLog(memoryview(raw[:length]))


@given(st.binary(max_size=3000), st.integers(0, 3))
def test_random_bytes_raise_nothing_else(noise: bytes, count: int) -> None:
    head = struct.pack("<QQQI", 0x6A736677736872, 1, count, SECTOR)
    for raw in (noise, head + noise, head.ljust(SECTOR, b"\0") + noise):
        with contextlib.suppress(WriteLogError):
            WriteLog(memoryview(raw))


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ((1, 1, 0, 512), "this is not a log of writes of version 1"),
        ((0x6A736677736872, 2, 0, 512), "this is not a log of writes of version 1"),
        ((0x6A736677736872, 1, 0, 0), "sectors of 0 bytes"),
        ((0x6A736677736872, 1, 0, 768), "sectors of 768 bytes"),
        ((0x6A736677736872, 1, 0, 1024), "the log ends within its first sector"),
        ((0x6A736677736872, 1, 1, 512), "the log ends before entry 0 of 1"),
    ],
)
def test_what_is_wrong_is_named(head: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(WriteLogError, match=message):
        WriteLog(memoryview(struct.pack("<QQQI", *head).ljust(512, b"\0")))


def test_marks_are_in_their_own_sector_and_unknown_flags_are_not_guessed_at() -> None:
    log = WriteLog(memoryview(packed([(0, MARK, b""), (7, 0, b"a" * SECTOR)])))
    assert [(entry.sector, entry.data) for entry in log.entries] == [(0, 1024), (7, 1536)]
    with pytest.raises(WriteLogError, match="entry 0 has unknown flags 0x10"):
        WriteLog(memoryview(packed([(0, 16, b"")])))
    with pytest.raises(WriteLogError, match="entry 0 is a mark that is too long"):
        WriteLog(memoryview(packed([(0, MARK, b"a" * SECTOR)])))


def test_a_place_in_the_log_is_after_what_begins_before_it() -> None:
    log = WriteLog(memoryview(packed([(0, 0, b"a" * SECTOR), (0, FLUSH, b"")])))
    assert [log.entries_before(place) for place in (0, 512, 513, 1536, 1537)] == [0, 0, 1, 1, 2]
