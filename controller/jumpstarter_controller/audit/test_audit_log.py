"""What is told to the journal is in it within a second, in order, within bounds, and nobody waits for it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import UserDict
from collections.abc import AsyncIterator, Callable, ItemsView
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from jumpstarter_controller.audit import (
    AuditEntry,
    AuditLimits,
    AuditLog,
    AuditQuery,
    CallReport,
    audit_file,
)
from jumpstarter_controller.audit.audit_file import AuditError, AuditFile
from jumpstarter_controller.audit.audit_log import MAX_WAITING, WRITE_SECONDS
from jumpstarter_controller.audit.entry import Board
from jumpstarter_controller.audit.rates import BURST_ENTRIES, TELL_SECONDS

ANN = ("client", "default", "ann")
ALL = AuditQuery()


def event(what: str, time: float = 1000.0, **more: Any) -> AuditEntry:
    return AuditEntry(time, "default", what=what, **more)


def call(number: int, board: str = "one") -> AuditEntry:
    return AuditEntry(float(number), board=board, is_call=True, device="power", method="on", status="OK")


@asynccontextmanager
async def running(path: Path, **limits: Any) -> AsyncIterator[AuditLog]:
    journal = AuditLog(path, lambda: 1000.0, limits=AuditLimits(**limits))
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        yield journal
        nursery.cancel_scope.cancel()


def words(entries: list[AuditEntry]) -> list[str]:
    return [entry.what for entry in entries]


async def test_an_entry_is_on_the_disk_a_second_later(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path / "j") as journal:
        journal.write(event("one"), ANN)
        journal.write(event("two"), ANN)
        await trio.sleep(WRITE_SECONDS * 1.5)
        other = AuditFile(tmp_path / "j", 1024 * 1024)
        assert words(other.read(ALL)[0]) == ["one", "two"]
        other.close()


async def test_what_waits_is_read_too_and_kept_at_the_end(tmp_path: Path) -> None:
    async with running(tmp_path / "j") as journal:
        journal.write(event("one"), ANN)
        assert words((await journal.read(ALL))[0]) == ["one"]
        journal.write(event("two"), ANN)
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o600
    async with running(tmp_path / "j") as journal:
        assert words((await journal.read(ALL))[0]) == ["one", "two"]


async def test_whoever_does_nothing_makes_no_file(tmp_path: Path) -> None:
    async with running(tmp_path / "j"):
        pass
    assert not (tmp_path / "j").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_makes_belongs_to_whom_the_folder_belongs(tmp_path: Path) -> None:
    folder = tmp_path / "service"
    folder.mkdir()
    os.chown(folder, 12345, 12346)
    file = AuditFile(folder / "j", 1024 * 1024)
    file.append([event("one")], 0.0)
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in folder.iterdir()}
    file.close()
    assert owners == {(12345, 12346)}


async def test_a_query_finds_a_boards_leases_from_their_beginning_and_counts_what_is_older(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "j") as journal:
        journal.write(event("asked", 1.0, client="ann", lease="l1"), ANN)
        journal.write(event("another's", 2.0, client="bob", lease="l2"), ANN)
        journal.write(event("ready", 3.0, client="ann", lease="l1", board="one"), ANN)
        journal.write(event("late", 2.5, client="ann"), ANN)

        async def found(**how: Any) -> list[str]:
            return words((await journal.read(AuditQuery(**how)))[0])

        assert await found() == ["asked", "another's", "late", "ready"]
        assert await found(board="one") == ["asked", "ready"]
        assert await found(client="ann", since=2.0) == ["late", "ready"]
        assert await found(lease="l2") == ["another's"]
        assert await found(until=1.5) == ["asked"]
        assert await found(namespace="other") == []
        entries, left = await journal.read(AuditQuery(limit=1))
        assert (words(entries), left) == (["ready"], 3)


async def test_who_floods_is_counted_and_nobody_else_is(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path / "j") as journal:
        for _ in range(BURST_ENTRIES + 312):
            journal.write(event("again", client="ann"), ANN)
        journal.write(event("bob's", client="bob"), ("client", "default", "bob"))
        await trio.sleep(20)
        entries, _ = await journal.read(AuditQuery(client="ann"))
        assert len(entries) == BURST_ENTRIES + 1
        assert entries[-1].more == 312
        assert words((await journal.read(AuditQuery(client="bob")))[0]) == ["bob's"]


async def test_how_many_were_left_out_is_kept_at_the_end(tmp_path: Path) -> None:
    async with running(tmp_path / "j") as journal:
        for _ in range(BURST_ENTRIES + 5):
            journal.write(event("again"), ANN)
    async with running(tmp_path / "j") as journal:
        assert (await journal.read(ALL))[0][-1].more == 5


async def test_a_number_is_written_soon_also_where_nothing_else_happens(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path / "j") as journal:
        await trio.sleep(5)
        journal.count(event("", client="ann"), ANN, 5)
        await trio.sleep(TELL_SECONDS * 1.5)
        file = AuditFile(tmp_path / "j", 1024 * 1024)
        assert [one.more for one in file.read(ALL)[0]] == [5]
        file.close()


async def test_what_could_not_be_written_is_tried_again_by_itself(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    folder = tmp_path / "away"
    async with running(folder / "j") as journal:
        journal.write(event("one"), ANN)
        await trio.sleep(2)
        assert journal.trouble
        folder.mkdir()
        await trio.sleep(10)
        file = AuditFile(folder / "j", 1024 * 1024)
        assert words(file.read(ALL)[0]) == ["one"]
        file.close()


async def test_which_reports_its_entries_are_from_is_kept_at_the_end_however_busy_its_file_is(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = threading.Event(), threading.Event()
    read = AuditFile.read

    def slow(file: AuditFile, query: AuditQuery) -> tuple[list[AuditEntry], int]:
        begun.set()
        assert may_end.wait(10)
        return read(file, query)

    monkeypatch.setattr(AuditFile, "read", slow)
    report = CallReport("uid", "process", 7, 1000.0)
    async with running(tmp_path / "j") as journal:
        nursery.start_soon(journal.read, ALL)
        await trio.to_thread.run_sync(begun.wait)
        journal.write(call(1), ANN)
        journal.note_report(("default", "one"), report)
        with trio.CancelScope() as left:  # as whoever asks for the journal leaves while another reads it
            async with trio.open_nursery() as others:
                others.start_soon(journal.flush)
                await trio.testing.wait_all_tasks_blocked()
                left.cancel()
        may_end.set()
    file = AuditFile(tmp_path / "j", 1024 * 1024)
    with closing(file):
        assert file.reports() == {("default", "one"): report}
        assert len(read(file, ALL)[0]) == 1


def test_a_file_that_is_made_takes_no_descriptor_with_it(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    file = AuditFile(tmp_path / "j", 1024 * 1024)
    file.append([event("one")], 0.0)
    file.close()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_what_is_too_old_goes(tmp_path: Path) -> None:
    async with running(tmp_path / "j", seconds=100.0) as journal:
        journal.write(event("old", 899.0), ANN)
        journal.write(event("young", 901.0), ANN)
        assert words((await journal.read(ALL))[0]) == ["young"]


def test_no_more_than_its_bytes_are_kept_the_newest_and_no_board_pushes_the_leases_out(
    tmp_path: Path,
) -> None:
    file = AuditFile(tmp_path / "j", 1024 * 1024)
    file.append([event(f"lease {number}", number) for number in range(200)], 0.0)
    for start in range(0, 20_000, 1000):
        file.append([call(number) for number in range(start, start + 1000)], 0.0)
    entries, _ = file.read(AuditQuery(limit=100_000))
    calls = [one for one in entries if one.is_call]
    assert calls[-1].time == 19_999.0
    assert 1000 < len(calls) < 15_000
    assert [one.what for one in entries if not one.is_call] == [f"lease {number}" for number in range(200)]
    file.close()
    # WAL pages are 4 MiB more at most; closed, there are none.
    assert (tmp_path / "j").stat().st_size <= 1.2 * 1024 * 1024


def test_when_what_is_too_much_cannot_go_nothing_is_added_and_later_it_is_once(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with closing(AuditFile(path, 128 * 1024)) as file, closing(sqlite3.connect(path)) as other:
        file.append([event("x" * 400, float(number)) for number in range(200)], 0.0)
        other.execute(
            "CREATE TRIGGER full BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'no room'); END"
        )
        more = [event(f"more {number}" + "x" * 400, 1000.0 + number) for number in range(200)]
        for _ in range(3):
            with pytest.raises(AuditError, match="no room"):
                file.append(more, 0.0, {("default", "one"): CallReport("uid", "process", 7, 1000.0)})
        assert not file.reports()
        assert all(one.what.startswith("x") for one in file.read(ALL)[0])
        other.execute("DROP TRIGGER full")
        file.append(more, 0.0)
        times = [one.time for one in file.read(ALL)[0]]
        assert times[-len(more) :] == [one.time for one in more][-len(times) :]
        assert len(times) == len(set(times))


def test_no_more_rows_than_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_file, "MAX_ROWS", 100)
    file = AuditFile(tmp_path / "j", 1024 * 1024)
    file.append([event(str(number), number) for number in range(1000)], 0.0)
    entries, _ = file.read(ALL)
    assert 80 < len(entries) <= 100
    assert entries[-1].what == "999"
    file.close()


async def test_what_is_lost_while_it_is_written_that_others_were_is_said_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write, append = threading.Event(), AuditFile.append

    def wait(file: AuditFile, *batch: Any) -> None:
        may_write.wait(20)
        append(file, *batch)

    monkeypatch.setattr(AuditFile, "append", wait)
    journal = AuditLog(tmp_path / "j", lambda: 1000.0)

    def lose(count: int) -> None:
        for number in range(count):
            journal.write(event("x"), ("client", str(number)))

    lose(MAX_WAITING + 7)
    assert journal.lost == 7
    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.flush)
        await trio.testing.wait_all_tasks_blocked()
        lose(3)
        may_write.set()
    await journal.flush()
    entries, _ = await journal.read(AuditQuery(limit=MAX_WAITING + 10))
    assert journal.lost == 10
    assert [what.partition(":")[0] for what in words(entries) if what != "x"] == [
        "7 entries of the journal were lost",
        "3 entries of the journal were lost",
    ]
    journal._file.close()


async def test_a_disk_that_takes_nothing_loses_entries_counts_them_and_says_so(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "away"
    async with running(folder / "j") as journal:
        for number in range(MAX_WAITING + 7):
            journal.write(event("x"), ("client", str(number % 100)))
        await trio.sleep(2)
        assert journal.trouble
        for number in range(MAX_WAITING):
            journal.write(event("x"), ("client", str(number)))
        assert journal.lost == 7 + MAX_WAITING
        with pytest.raises(AuditError, match="make room"):
            await journal.read(ALL)
        folder.mkdir()
        await trio.sleep(10)
        assert not journal.trouble
        entries, _ = await journal.read(AuditQuery(limit=100_000))
        assert len(entries) > MAX_WAITING
        assert f"{MAX_WAITING + 7} entries of the journal were lost" in " ".join(words(entries[-200:]))
    assert sum("may get lost" in line for line in caplog.messages) == 1
    assert sum("can be written again" in line for line in caplog.messages) == 1


WRITER = """
import sys, time
from pathlib import Path
from typing import Any
from jumpstarter_controller.audit import AuditEntry
from jumpstarter_controller.audit.audit_file import AuditFile
file = AuditFile(Path(sys.argv[1]), 64 * 1024 * 1024)
number = 0
while True:
    file.append([AuditEntry(float(number), what=str(number))], 0.0)
    print(number, flush=True)
    number += 1
"""


@pytest.mark.kills
def test_what_was_written_survives_kill_9(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "j")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 50:
                process.send_signal(signal.SIGKILL)
                break
        last = max(int(line) for line in [line, *process.stdout])
    file = AuditFile(tmp_path / "j", 1024 * 1024)
    entries, _ = file.read(ALL)
    file.close()
    assert [one.what for one in entries][: last + 1] == [str(number) for number in range(last + 1)]


@pytest.mark.parametrize("body", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_put_aside(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "j").write_bytes(body)
    file = AuditFile(tmp_path / "j", 1024 * 1024)
    file.append([event("one")], 0.0)
    assert words(file.read(ALL)[0]) == ["one", begun_anew(tmp_path / "j", "was damaged", "damaged")]
    file.close()
    assert (tmp_path / "j.damaged").read_bytes() == body


def begun_anew(path: Path, state: str, suffix: str) -> str:
    return f"the journal {state} and is begun anew; what was there is in {path}.{suffix}"


def noise(path: Path) -> None:
    """Everything behind its first page."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    whole = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(random.Random(1).randbytes(len(whole) - 4096))


def garbled_while_it_runs(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        (version,) = db.execute("PRAGMA schema_version").fetchone()
        db.execute("PRAGMA writable_schema=1")
        db.execute("UPDATE sqlite_master SET sql=CAST(x'4352cc' AS TEXT) WHERE name='entries'")
        db.execute(f"PRAGMA schema_version={version + 1}")


def without_tables(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DROP TABLE entries")


def with_another_column(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("ALTER TABLE entries RENAME COLUMN body TO text")


USES: list[Callable[[AuditFile], object]] = [
    lambda file: file.read(ALL),
    lambda file: file.reports(),
    lambda file: file.append([], 0.0),
]


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("damage", [noise, garbled_while_it_runs, without_tables, with_another_column])
@pytest.mark.parametrize("use", USES)
def test_a_file_that_is_found_damaged_later_is_put_aside_too(
    tmp_path: Path, use: Callable[[AuditFile], object], damage: Callable[[Path], None], *, is_open: bool
) -> None:
    path = tmp_path / "j"
    with closing(AuditFile(path, 1024 * 1024)) as file:
        file.append([event(f"{number} " + "x" * 400) for number in range(100)], 0.0)
        if not is_open:
            file.close()
        damage(path)
        use(file)
        file.append([event("one")], 0.0)
        if damage in (without_tables, with_another_column) and use is USES[1]:
            use = USES[0]  # what reads only the other table notices nothing
        assert words(file.read(ALL)[0]) == ["one", begun_anew(path, "was damaged", "damaged")]
    assert (tmp_path / "j.damaged").exists()


def test_a_journal_that_is_a_link_stays_one(tmp_path: Path) -> None:
    path, real = tmp_path / "j", tmp_path / "disk" / "journal"
    real.parent.mkdir()
    path.symlink_to(real)
    with closing(AuditFile(path, 1024 * 1024)) as file:
        file.append([event(f"{number} " + "x" * 400) for number in range(100)], 0.0)
        assert oct(real.stat().st_mode & 0o777) == "0o600"
        noise(real)
        file.append([event("one")], 0.0)
        assert words(file.read(ALL)[0]) == ["one", begun_anew(real, "was damaged", "damaged")]
    assert path.is_symlink()
    assert oct(real.stat().st_mode & 0o777) == "0o600"
    assert (real.parent / "journal.damaged").exists()


def test_the_log_of_a_file_that_is_put_aside_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "j"
    (tmp_path / "j.damaged-wal").write_bytes(b"of another one")
    with closing(AuditFile(path, 1024 * 1024)) as file, closing(sqlite3.connect(path)) as other:
        file.append([event("one")], 0.0)
        other.execute("SELECT count(*) FROM entries").fetchall()  # as it stays open, the log stays, too
        garbled_while_it_runs(path)
        log = (tmp_path / "j-wal").read_bytes()
        file.append([event("two")], 0.0)
        assert (tmp_path / "j.damaged-wal").read_bytes() == log


def test_a_log_that_sqlite_shortens_itself_is_no_loss(tmp_path: Path) -> None:
    """A long log is cut to `journal_size_limit` when a transaction that begins it again is committed."""
    log = tmp_path / "j-wal"
    with closing(AuditFile(tmp_path / "j", 64 * 1024 * 1024)) as file:
        file.append([event("x" * 1000) for _ in range(6000)], 0.0)
        before = log.stat().st_size
        file.append([event("y" * 1000) for _ in range(3000)], 0.0)  # more than is kept in memory until then
        assert log.stat().st_size < before
        entries, older = file.read(ALL)
    assert (len(entries), older, {entry.what[0] for entry in entries}) == (9000, 0, {"x", "y"})


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def empty(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize(
    ("name", "happens", "what"),
    [
        ("j", remove, "does not exist any more"),
        ("j", replace, "was replaced"),
        ("j-wal", remove, "does not exist any more"),
        ("j-wal", replace, "was replaced"),
        ("j-shm", remove, "does not exist any more"),
        ("j-wal", empty, "was shortened"),
    ],
)
def test_entries_are_where_the_next_one_looks_whatever_is_removed(
    tmp_path: Path, name: str, happens: Callable[[Path], None], what: str
) -> None:
    path = tmp_path / "j"
    with closing(AuditFile(path, 1024 * 1024)) as file:
        file.append([event("one")], 0.0)
        happens(tmp_path / name)
        for later in ("two", "three"):
            file.append([event(later)], 0.0)
        if name == "j-wal" and happens is remove:
            assert "one" in words(file.read(ALL)[0]), "what was there was lost as well"
        # As after a kill: what is on the disk now, and nothing that is written at the end.
        shutil.copytree(tmp_path, tmp_path / "found")
    with closing(AuditFile(tmp_path / "found" / "j", 1024 * 1024)) as found:
        said = words(found.read(ALL)[0])
    assert [one for one in said if one in ("two", "three")] == ["two", "three"]
    (note,) = (one for one in said if "while the controller ran" in one)
    assert note.startswith(f"{tmp_path / name} {what}")
    assert "entries from before may be missing" in note


def test_entries_are_where_the_next_one_looks_when_the_file_is_removed_while_they_are_written(
    tmp_path: Path,
) -> None:
    path = tmp_path / "j"

    class Reports(UserDict[Board, CallReport]):
        """Read in the middle of a transaction."""

        def items(self) -> ItemsView[Board, CallReport]:
            if not (tmp_path / "gone").exists():
                path.replace(tmp_path / "gone")
            return super().items()

    with closing(AuditFile(path, 1024 * 1024)) as file:
        file.append([event("one")], 0.0, Reports())
    with closing(AuditFile(path, 1024 * 1024)) as found:
        assert words(found.read(ALL)[0])[0] == "one"


def test_an_entry_of_invalid_text_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with closing(AuditFile(path, 1024 * 1024)) as file:
        file.append([event("one"), event("two"), event("three")], 0.0)
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("UPDATE entries SET body=CAST(x'7bff' AS TEXT) WHERE number=2")
            db.execute("INSERT INTO entries VALUES (9, 1.0, 0, CAST(x'ff' AS TEXT), '', '', '', 5)")
        assert words(file.read(ALL)[0]) == ["one", "three"]


def test_each_failure_of_the_file_has_its_own_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_file, "BUSY_SECONDS", 0.05)
    path = tmp_path / "j"
    with closing(AuditFile(path, 1024 * 1024)) as file:
        file.append([event("one")], 0.0)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(AuditError, match="end the program that has it open"):
                file.append([event("two")], 0.0)
        (tmp_path / "j.damaged").mkdir()
        (tmp_path / "j.damaged" / "x").touch()
        noise(path)
        with pytest.raises(AuditError, match=f"{path} is damaged and cannot be renamed: .*; move it away"):
            file.read(ALL)


def test_a_file_of_a_newer_version_is_put_aside(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "j")) as db:
        db.execute("PRAGMA user_version=99")
    file = AuditFile(tmp_path / "j", 1024 * 1024)
    file.append([event("one")], 0.0)
    note = begun_anew(tmp_path / "j", "was of a newer version", "newer")
    assert words(file.read(ALL)[0]) == ["one", note]
    file.close()
    assert (tmp_path / "j.newer").exists()


def test_a_row_that_no_code_of_ours_wrote_is_left_out(tmp_path: Path) -> None:
    file = AuditFile(tmp_path / "j", 1024 * 1024)
    file.append([event("one")], 0.0)
    with closing(sqlite3.connect(tmp_path / "j", isolation_level=None)) as db:
        db.execute("INSERT INTO entries VALUES (9, 1.0, 0, '', '', '', '', '[]')")
    assert words(file.read(ALL)[0]) == ["one"]
    file.close()
