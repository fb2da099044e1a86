from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
import threading
from collections import deque
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jumpstarter_proto.console_lines import LINE_BYTES, lines_of

from jumpstarter_exporter.record_clock import RecordClock
from jumpstarter_exporter.recording import (
    ConsoleRecord,
    Cursor,
    Recorder,
    RecordingFolder,
    RecordKind,
    state_directory,
)
from jumpstarter_exporter.recording import recorder as module
from jumpstarter_exporter.recording.folder import TakenError, last_change
from jumpstarter_exporter.recording.recorder import RECORD_OVERHEAD_BYTES
from jumpstarter_exporter.recording.records import decode, encode

records = st.lists(
    st.builds(
        ConsoleRecord, st.integers(0, 1 << 62), st.sampled_from(list(RecordKind)), st.binary(max_size=100)
    ),
    max_size=20,
)
LOG = logging.getLogger("test")


@given(records, st.integers(0, 200))
def test_a_torn_end_costs_nothing_that_stands_before(found: list[ConsoleRecord], torn: int) -> None:
    data = b"".join(map(encode, found))
    whole = list(decode(data[: max(0, len(data) - torn)]))
    assert whole == found[: len(whole)]
    kept = sum(record.size for record in whole)
    assert len(data) - kept - torn < (found[len(whole)].size if len(whole) < len(found) else 1)


@given(records, st.data())
def test_damage_is_never_read_as_data(found: list[ConsoleRecord], data: Any) -> None:
    content = bytearray(b"".join(map(encode, found)))
    if content:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    whole = list(decode(bytes(content)))
    assert whole == found[: len(whole)]


def everything(folder: RecordingFolder, cursor: Cursor | None = None) -> list[ConsoleRecord]:
    cursor = cursor or Cursor(0, 0)
    found: list[ConsoleRecord] = []
    while True:
        batch, cursor = folder.read(cursor, most=50)
        if not batch:
            return found
        found += batch


@settings(max_examples=50, deadline=None)
@given(records, st.integers(60, 400), st.lists(st.integers(0, 20), max_size=3))
def test_segments_hold_the_newest_within_their_bounds(
    found: list[ConsoleRecord], segment: int, restarts: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = RecordingFolder(Path(name) / "a", limit=segment * 4, segment=segment)
        folder.open()
        for index, record in enumerate(found):
            folder.append(record)
            if index in restarts:
                folder.close()
                folder = RecordingFolder(Path(name) / "a", limit=segment * 4, segment=segment)
                folder.open()
        folder.close()
        there = everything(folder)
        assert there == found[len(found) - len(there) :]
        files = [file.stat().st_size for file in folder.path.glob("*.console")]
        assert sum(files) <= segment * 4
        largest = max(segment, 120)
        assert all(size <= largest for size in files)
        assert len(there) == len(found) or sum(files) >= segment * 4 - 2 * largest


@pytest.mark.parametrize("torn", [b"", b"\0\0\0"])
def test_restarts_cost_nothing_that_was_recorded(tmp_path: Path, torn: bytes) -> None:
    found = [ConsoleRecord(number, RecordKind.NOTE, b"the port was opened") for number in range(100)]
    for record in found:
        folder = RecordingFolder(tmp_path)
        folder.open()
        folder.append(record)
        folder.close()
        newest = max(tmp_path.glob("*.console"))
        newest.write_bytes(newest.read_bytes() + torn)
    assert everything(RecordingFolder(tmp_path)) == found
    assert len(list(tmp_path.glob("*.console"))) == (100 if torn else 1)


def test_the_number_of_segments_is_bounded_however_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jumpstarter_exporter.recording.folder.MAX_SEGMENTS", 5)
    for number in range(20):
        folder = RecordingFolder(tmp_path)
        folder.open()
        folder.append(ConsoleRecord(number, RecordKind.DATA, b"x"))
        folder.close()
        newest = max(tmp_path.glob("*.console"))
        newest.write_bytes(newest.read_bytes() + b"torn")
    assert [record.time for record in everything(folder)] == [15, 16, 17, 18, 19]


pieces_of_lines = st.lists(
    st.one_of(
        st.binary(max_size=12), st.sampled_from([b"\r", b"\n", b"\r\n", b" 10%\r", b"\r\r\n", b"x" * 30])
    )
)


@given(pieces_of_lines, st.integers(1, 8))
@example([b"\n", b""], 1)
@example([b" 10%\r", b" 20%\r", b" 30%"], 2)
@example([b"one\r", b"\ntwo\r", b"\n"], 1)
def test_the_last_lines_are_those_of_the_whole(pieces: list[bytes], count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = RecordingFolder(Path(name), limit=100_000, segment=200)
        folder.open()
        for piece in pieces:
            folder.append(ConsoleRecord(1, RecordKind.DATA, piece))
        folder.append(ConsoleRecord(1, RecordKind.MARK, b"here\n"))
        folder.close()
        found, end = folder.last_lines(count)
        text = b"".join(record.data for record in found if record.kind is RecordKind.DATA)
        whole = b"".join(pieces)
        lines = list(lines_of(whole))
        rest = whole[sum(map(len, lines)) :]
        assert text == b"".join([*lines, *([rest] if rest else [])][-count:])
        assert folder.read(end) == ([], end)


def test_a_line_without_an_end_is_cut_and_not_read_to_its_beginning(tmp_path: Path) -> None:
    folder = RecordingFolder(tmp_path, limit=32 << 20)
    folder.open()
    for _ in range(40):
        folder.append(ConsoleRecord(1, RecordKind.DATA, b"#" * LINE_BYTES))
    folder.close()
    found, _ = folder.last_lines(3)
    assert sum(len(record.data) for record in found) == 3 * LINE_BYTES


def test_one_writes_and_any_number_read(tmp_path: Path) -> None:
    first, second = RecordingFolder(tmp_path), RecordingFolder(tmp_path)
    first.open()
    with pytest.raises(TakenError, match="another exporter"):
        second.open()
    first.append(ConsoleRecord(1, RecordKind.DATA, b"x"))
    assert [record.data for record in everything(second)] == [b"x"]
    first.close()
    second.open()
    second.append(ConsoleRecord(2, RecordKind.DATA, b"y"))
    assert [record.data for record in everything(first)] == [b"x", b"y"]
    second.close()


def text_of(batches: list[list[ConsoleRecord]]) -> bytes:
    return b"".join(record.data for batch in batches for record in batch if record.kind is RecordKind.DATA)


async def test_a_recording_goes_on_after_a_restart_and_followers_see_what_comes(tmp_path: Path) -> None:
    for word in (b"one ", b"two "):
        recorder = Recorder(tmp_path / "c", logger=LOG)
        async with trio.open_nursery() as nursery:
            await nursery.start(recorder.run)
            recorder.record(word)
            assert text_of([batch async for batch in recorder.read()]).endswith(word)
            nursery.cancel_scope.cancel()
    recorder = Recorder(tmp_path / "c", logger=LOG)
    seen: list[list[ConsoleRecord]] = []

    async def follow() -> None:
        async for batch in recorder.read(follow=True):
            seen.append(batch)
            if text_of(seen) == b"one two three":
                nursery.cancel_scope.cancel()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(recorder.run)
            nursery.start_soon(follow)
            recorder.record(b"thr")
            recorder.mark("booted")
            await trio.testing.wait_all_tasks_blocked()
            recorder.record(b"ee")
    assert text_of(seen) == b"one two three"
    assert [r.data for batch in seen for r in batch if r.kind is RecordKind.MARK] == [b"booted"]


async def test_followers_end_with_the_recording_and_nothing_is_kept_for_it_any_more(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, logger=LOG)
    seen: list[list[ConsoleRecord]] = []

    async def follow() -> None:
        seen.extend([batch async for batch in recorder.read(follow=True)])

    async with trio.open_nursery() as followers:
        async with trio.open_nursery() as nursery:
            await nursery.start(recorder.run)
            recorder.record(b"before")
            followers.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        recorder.record(b"after")
    assert text_of(seen) == b"before"
    assert not recorder._waiting


@pytest.mark.parametrize("is_killed", [True, False])
async def test_what_a_kill_may_have_cost_is_said_once(tmp_path: Path, is_killed: bool) -> None:
    before = RecordingFolder(tmp_path)
    before.open()
    before.append(ConsoleRecord(1, RecordKind.DATA, b"before"))
    if is_killed:
        os.close(before._lock or 0)  # as the end of its process does
        os.close(before._file or 0)
    else:
        before.close()
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            recorder = Recorder(tmp_path, logger=LOG)
            await nursery.start(recorder.run)
            recorder.record(b"after")
            nursery.cancel_scope.cancel()
    gaps = [record.data for record in everything(before) if record.kind is RecordKind.GAP]
    assert gaps == [b"what came last before this may be missing: the exporter was killed"] * is_killed


async def test_what_was_recorded_before_the_end_is_on_disk(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, logger=LOG)
    async with trio.open_nursery() as nursery:
        await nursery.start(recorder.run)
        for _ in range(100):
            recorder.record(b"x" * 1000)
        nursery.cancel_scope.cancel()
    assert len(text_of([everything(RecordingFolder(tmp_path))])) == 100_000


async def test_a_full_disk_costs_output_that_is_said_and_never_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full = True
    write = os.write

    def refuse(descriptor: int, data: bytes) -> int:
        if full and descriptor == recorder._folder._file:
            write(descriptor, data[:5])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr("jumpstarter_exporter.recording.folder.os.write", refuse)
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 10_000)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.001)
    recorder = Recorder(tmp_path, logger=LOG)

    async def written() -> None:
        with trio.fail_after(10):
            await recorder._written.park()

    async with trio.open_nursery() as nursery:
        await nursery.start(recorder.run)
        recorder.record(b"y" * 1000)
        await written()  # or rather not
        for _ in range(29):
            recorder.record(b"y" * 1000)
        full = False
        while recorder._waiting:
            await written()
        recorder.record(b"after")
        nursery.cancel_scope.cancel()
    found = everything(RecordingFolder(tmp_path))
    gaps = [record.data for record in found if record.kind is RecordKind.GAP]
    assert len(gaps) == 1
    assert gaps[0].endswith(b"bytes are missing here: the disk did not take them")
    kept = text_of([found])
    assert len(kept) + int(gaps[0].split()[0]) == 30_000 + 5
    assert kept.endswith(b"after")
    assert [r.levelname for r in caplog.records] == ["WARNING", "WARNING"]
    assert "No space left on device; make room" in caplog.text


class Disk:
    """Takes so many records of a recording, and says then that it is full."""

    def __init__(self) -> None:
        self.room = 0
        self.folder: RecordingFolder | None = None
        self._write = os.write

    def write(self, descriptor: int, data: bytes) -> int:
        """In place of `os.write`."""
        if self.folder is not None and descriptor == self.folder._file:
            if not self.room:
                self._write(descriptor, data[:5])
                raise OSError(errno.ENOSPC, "No space left on device")
            self.room -= 1
        return self._write(descriptor, data)


STEPS = st.lists(st.one_of(st.sampled_from(["say", "mark", "rest"]), st.integers(0, 5)), max_size=40)


@settings(max_examples=50, deadline=None)
@given(STEPS)
@example(["say", "rest", "say", "mark", "say", "rest", 2, "rest", "say"])
@example(["say", "rest", *["say"] * 5, "mark", 3, "rest", "say", "rest", "mark"])
@example(["say", "rest", *["say"] * 5])
def test_whatever_a_disk_takes_each_word_is_in_its_place_or_a_gap_is(steps: list[str | int]) -> None:
    said: deque[tuple[RecordKind, bytes]] = deque()
    disk = Disk()

    async def run(folder: Path) -> None:
        recorder = Recorder(folder, logger=LOG)
        disk.folder = recorder._folder
        async with trio.open_nursery() as nursery:
            await nursery.start(recorder.run)
            for step in steps:
                match step:
                    case "say":
                        said.append((RecordKind.DATA, b"word %03d" % len(said) + b"." * 300))
                        recorder.record(said[-1][1])
                    case "mark":
                        said.append((RecordKind.MARK, b"mark %03d" % len(said)))
                        recorder.mark(said[-1][1].decode())
                    case int(room):
                        disk.room = room
                    case _ if recorder._size:
                        await recorder._written.park()
                waiting = sum(len(record.data) + RECORD_OVERHEAD_BYTES for record in recorder._waiting)
                assert recorder._size >= waiting, "what waits again counts again"
            disk.room = 1000
            nursery.cancel_scope.cancel()

    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patched:
        patched.setattr("jumpstarter_exporter.recording.folder.os.write", disk.write)
        patched.setattr(module, "MAX_WAITING_BYTES", 2000)
        patched.setattr(module, "JOIN_NANOSECONDS", 0)
        patched.setattr(module, "RETRY_SECONDS", 0.001)
        trio.run(run, Path(name))
        found = everything(RecordingFolder(Path(name)))
    for record in found:
        if record.kind is RecordKind.GAP:
            missing = int(record.data.split()[0])
            while missing:
                missing -= len(said.popleft()[1])
                assert missing >= 0, "a part of a word is not lost"
        else:
            assert (record.kind, record.data) == said.popleft()
    assert not said


async def test_without_a_place_nothing_is_recorded_and_nothing_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    recorder = Recorder(tmp_path / "file" / "x", logger=LOG)
    async with trio.open_nursery() as nursery:
        await nursery.start(recorder.run)
        recorder.record(b"x")
        recorder.mark("y")
        assert [batch async for batch in recorder.read()] == []
        assert not recorder._waiting
        nursery.cancel_scope.cancel()
    with trio.fail_after(10):
        assert [batch async for batch in recorder.read(follow=True)] == []
    assert "set JUMPSTARTER_STATE_DIRECTORY" in caplog.text


@pytest.mark.parametrize("obstacle", ["no place", "another writer"])
async def test_a_recording_begins_when_there_is_a_place_for_it_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, obstacle: str
) -> None:
    monkeypatch.setattr(module, "OPEN_SECONDS", 0.001)
    path, other = tmp_path / "folder" / "c", RecordingFolder(tmp_path / "folder" / "c")
    if obstacle == "no place":
        (tmp_path / "folder").touch()
    else:
        other.open()
    recorder = Recorder(path, logger=LOG)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(recorder.run)
            recorder.record(b"before")
            if obstacle == "no place":
                (tmp_path / "folder").unlink()
            other.close()
            while not recorder._is_writer:
                await trio.sleep(0.001)
            recorder.record(b"after")
            nursery.cancel_scope.cancel()
    found = [(record.kind, record.data) for record in everything(RecordingFolder(path))]
    gap = (RecordKind.GAP, b"6 bytes are missing here: the disk did not take them")
    assert found == [*([gap] if obstacle == "no place" else []), (RecordKind.DATA, b"after")]
    assert caplog.text.count("cannot be recorded") == (obstacle == "no place")


@pytest.fixture
def go_on(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Nothing is written before that is set: the disk is slow."""
    event = threading.Event()
    append = RecordingFolder.append

    def slow(folder: RecordingFolder, record: ConsoleRecord) -> None:
        event.wait(10)
        append(folder, record)

    monkeypatch.setattr(RecordingFolder, "append", slow)
    return event


async def test_what_was_lost_last_is_said_though_nothing_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, go_on: threading.Event
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 1000)
    recorder = Recorder(tmp_path, logger=LOG)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(recorder.run)
            recorder.record(b"x" * 700)
            await trio.testing.wait_all_tasks_blocked()  # a thread has it, and it counts
            recorder.record(b"y" * 700)
            go_on.set()
            while [r.kind for r in everything(RecordingFolder(tmp_path))] != [
                RecordKind.DATA,
                RecordKind.GAP,
            ]:
                await recorder._written.park()
            nursery.cancel_scope.cancel()


@given(st.lists(st.tuples(st.sampled_from(["record", "mark", "note"]), st.integers(0, 500)), max_size=400))
def test_what_waits_for_a_disk_that_takes_nothing_is_bounded(said: list[tuple[str, int]]) -> None:
    recorder = Recorder(Path("unused"), logger=LOG)
    recorder._is_writer = True
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "MAX_WAITING_BYTES", 20_000)
        patched.setattr(module, "JOIN_NANOSECONDS", 0)
        for kind, size in said:
            getattr(recorder, kind)(b"x" * size if kind == "record" else "x" * size)
            held = sum(len(record.data) + RECORD_OVERHEAD_BYTES for record in recorder._waiting)
            assert held == recorder._size <= 20_000 + RECORD_OVERHEAD_BYTES + 100, (
                "a gap's own words may come on top"
            )


def test_a_piece_that_cannot_be_taken_back_stands_in_front_of_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RecordingFolder(tmp_path)
    folder.open()
    folder.append(ConsoleRecord(1, RecordKind.DATA, b"before"))
    write = os.write

    def torn(descriptor: int, data: bytes) -> int:
        write(descriptor, data[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    def full(descriptor: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("jumpstarter_exporter.recording.folder.os.write", torn)
        patched.setattr("jumpstarter_exporter.recording.folder.os.ftruncate", full)
        with pytest.raises(OSError, match="No space"):
            folder.append(ConsoleRecord(2, RecordKind.DATA, b"torn"))
    folder.append(ConsoleRecord(3, RecordKind.DATA, b"after"))
    folder.close()
    assert [record.data for record in everything(RecordingFolder(tmp_path))] == [b"before", b"after"]


def test_a_recording_whose_folder_was_removed_is_begun_again(tmp_path: Path) -> None:
    folder = RecordingFolder(tmp_path / "c", limit=400, segment=100)
    folder.open()
    folder.append(ConsoleRecord(1, RecordKind.DATA, b"x" * 50))
    shutil.rmtree(tmp_path / "c")
    for number in range(2, 5):
        folder.append(ConsoleRecord(number, RecordKind.DATA, b"y" * 50))
    folder.close()
    assert everything(RecordingFolder(tmp_path / "c"))[-1].time == 4


@pytest.mark.parametrize("how", ["removed", "moved", "emptied"])
def test_a_file_that_is_not_there_any_more_gets_nothing(tmp_path: Path, how: str) -> None:
    """Else what follows would be lost: up to a megabyte, in a file that nobody can find."""
    folder = RecordingFolder(tmp_path / "c")
    folder.open()
    folder.append(ConsoleRecord(1, RecordKind.DATA, b"before"))
    match how:
        case "removed":
            shutil.rmtree(tmp_path / "c")
        case "moved":
            (tmp_path / "c").rename(tmp_path / "elsewhere")
        case _:
            os.truncate(tmp_path / "c" / "000000000001.console", 0)
    folder.append(ConsoleRecord(2, RecordKind.DATA, b"after"))
    assert [record.data for record in everything(RecordingFolder(tmp_path / "c"))] == [b"after"]
    with pytest.raises(TakenError, match="another exporter records into"):
        RecordingFolder(tmp_path / "c").open()
    folder.close()


@pytest.mark.parametrize("how", ["pipe", "folder", "link", "lost link"])
def test_what_is_no_file_is_not_read_and_not_written(tmp_path: Path, how: str) -> None:
    """Nobody waits for a pipe, and nothing is recorded into what a link leads to."""
    with_records(tmp_path, b"before")
    odd = tmp_path / "000000000002.console"
    match how:
        case "pipe":
            os.mkfifo(odd)
        case "folder":
            odd.mkdir()
        case "link":
            odd.symlink_to("/dev/null")
        case _:
            odd.symlink_to("nowhere")
    (tmp_path / "\N{SUPERSCRIPT TWO}.console").touch()
    (tmp_path / "7.console").touch()
    with_records(tmp_path, b"after")
    assert [record.data for record in everything(RecordingFolder(tmp_path))] == [b"before", b"after"]
    folder = RecordingFolder(tmp_path, limit=200, segment=100)
    folder.open()
    for number in range(20):
        folder.append(ConsoleRecord(number, RecordKind.DATA, b"x" * 50))
    folder.close()
    assert os.path.lexists(odd), "it is not the recording's"


def with_records(path: Path, data: bytes) -> None:
    folder = RecordingFolder(path)
    folder.open()
    folder.append(ConsoleRecord(1, RecordKind.DATA, data))
    folder.close()


@pytest.mark.parametrize("hours", [1, 72])
async def test_a_clock_that_is_set_back_shows_nobody_what_was_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """The host was started again, and its clock is behind: it has no battery, or was wrong before."""
    wall = 1_800_000_000_000_000_000
    monkeypatch.setattr("time.time_ns", lambda: wall)

    async def recorded(data: bytes) -> Recorder:
        recorder, clock = Recorder(tmp_path / "c", logger=LOG), RecordClock()
        monkeypatch.setattr(module, "RECORD_CLOCK", clock)
        async with trio.open_nursery() as nursery:
            await nursery.start(recorder.run)
            await trio.testing.wait_all_tasks_blocked()
            began.append(int(clock.begin() * 1e9))
            recorder.record(data)
            nursery.cancel_scope.cancel()
        return recorder

    async def seen(since: int, *, until_now: bool) -> list[bytes]:
        batches = recorder.read(since=since, until_now=until_now)
        return [record.data async for batch in batches for record in batch]

    began: list[int] = []
    await recorded(b"theirs")
    wall -= hours * 3_600_000_000_000
    recorder = await recorded(b"mine")
    assert await seen(began[-1], until_now=True) == [b"mine"]
    assert await seen(0, until_now=False) == [b"theirs", b"mine"]


def test_when_a_recording_was_changed_last_is_known_without_reading_it(tmp_path: Path) -> None:
    assert last_change(tmp_path / "nothing") == 0
    for name, then in (("a", 5), ("b", 7), ("c", 6)):
        with_records(tmp_path / name, b"x")
        os.utime(tmp_path / name / "000000000001.console", ns=(then, then))
    assert last_change(tmp_path) == 7


def test_what_was_recorded_is_for_the_exporter_and_its_group_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = RecordingFolder(tmp_path / "a" / "c", limit=400, segment=100)
        folder.open()
        for number in range(3):
            folder.append(ConsoleRecord(number, RecordKind.DATA, b"x" * 80))
        folder.close()
    finally:
        os.umask(before)
    files = sorted((tmp_path / "a" / "c").iterdir())
    assert len(files) == 4
    assert {path.stat().st_mode & 0o777 for path in files} == {0o640}
    assert (tmp_path / "a" / "c").stat().st_mode & 0o777 == 0o750


async def test_pieces_that_come_together_are_one_record(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, logger=LOG)
    async with trio.open_nursery() as nursery:
        await nursery.start(recorder.run)
        for _ in range(10_000):
            recorder.record(b"0123456789")
        assert len(recorder._waiting) < 50
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("lines", "wanted"), [(None, [b"7\n", b"8\n", b"9\n"]), (5, [b"7\n", b"8\n", b"9\n"]), (1, [b"9\n"])]
)
def test_since(tmp_path: Path, lines: int | None, wanted: list[bytes]) -> None:
    async def main() -> list[bytes]:
        folder = RecordingFolder(tmp_path)
        folder.open()
        for time in range(10):
            folder.append(ConsoleRecord(time, RecordKind.DATA, b"%d\n" % time))
        folder.close()
        recorder = Recorder(tmp_path, logger=LOG)
        return [record.data async for batch in recorder.read(since=7, lines=lines) for record in batch]

    assert trio.run(main) == wanted


@pytest.mark.parametrize("waiting", [b"", b"second"])
async def test_what_is_being_written_belongs_to_the_answer(
    tmp_path: Path, go_on: threading.Event, waiting: bytes
) -> None:
    recorder = Recorder(tmp_path, logger=LOG)
    seen: list[list[ConsoleRecord]] = []

    async def look() -> None:
        seen.extend([batch async for batch in recorder.read()])

    async with trio.open_nursery() as nursery:
        await nursery.start(recorder.run)
        recorder.record(b"first ")
        await trio.testing.wait_all_tasks_blocked()  # a thread has it
        if waiting:
            recorder.record(waiting)
        async with trio.open_nursery() as readers:
            readers.start_soon(look)
            await trio.testing.wait_all_tasks_blocked()
            go_on.set()
        nursery.cancel_scope.cancel()
    assert text_of(seen) == b"first " + waiting


def test_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jumpstarter_exporter.paths.SYSTEM_STATE_FOLDER", tmp_path / "none")
    assert state_directory({"JUMPSTARTER_STATE_DIRECTORY": "/a", "STATE_DIRECTORY": "/b"}) == Path("/a")
    assert state_directory({"STATE_DIRECTORY": "/b:/c"}) == Path("/b")
    assert state_directory({"XDG_STATE_HOME": "/x"}) == Path("/x/jumpstarter")
    assert state_directory({}) == Path("~/.local/state/jumpstarter").expanduser()
    monkeypatch.setattr("jumpstarter_exporter.paths.SYSTEM_STATE_FOLDER", tmp_path)
    assert state_directory({"XDG_STATE_HOME": "/x"}) == tmp_path
