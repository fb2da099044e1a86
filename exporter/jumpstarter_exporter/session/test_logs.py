"""The log that users follow."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import AsyncIterator

import pytest
import trio
from jumpstarter_proto.log_lines import NOTICE, LineFormatter
from jumpstarter_proto.v1 import common_pb2

from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.devices.inventory import Inventory
from jumpstarter_exporter.devices.spec import Spec
from jumpstarter_exporter.session.logs import (
    MAX_LINE_LENGTH,
    MAX_LINES,
    BoardLog,
    LogEntry,
    LogReader,
    NameBoard,
    SessionLog,
    dispatching,
)
from jumpstarter_exporter.session.session import Session


@pytest.fixture
async def log() -> AsyncIterator[SessionLog]:
    """One that gets what the test logs."""
    log = SessionLog()
    with dispatching(), log.bound():
        yield log


def driver(name: str = "power", level: int = logging.DEBUG) -> logging.Logger:
    logger = logging.getLogger(f"driver.{name}")
    logger.setLevel(level)
    return logger


async def take(reader: LogReader, count: int) -> list[str]:
    return [(await anext(reader)).message for _ in range(count)]


async def test_each_reader_gets_every_entry() -> None:
    log = SessionLog()
    with log.reader() as first, log.reader() as second:
        for number in range(3):
            log.append(LogEntry(str(number)))
        assert await take(first, 3) == await take(second, 3) == ["0", "1", "2"]


async def test_a_new_reader_starts_now_or_with_what_is_kept() -> None:
    log = SessionLog(kept=2)
    for number in range(3):
        log.append(LogEntry(str(number)))
    with log.reader() as now, log.reader(from_start=True) as before:
        log.append(LogEntry("3"))
        assert await take(now, 1) == ["3"]
        assert await take(before, 3) == ["1 entries dropped, this reader is too slow", "2", "3"]


async def test_a_slow_reader_is_told_how_much_it_missed_and_others_are_not() -> None:
    log = SessionLog(kept=4)
    with log.reader() as slow, log.reader() as quick:
        for number in range(10):
            log.append(LogEntry(str(number)))
            assert await take(quick, 1) == [str(number)]
        told = await anext(slow)
        assert (told.message, told.severity) == ("6 entries dropped, this reader is too slow", "WARNING")
        assert await take(slow, 4) == ["6", "7", "8", "9"]


async def test_an_entry_from_a_thread_wakes_a_waiting_reader(autojump_clock: trio.testing.MockClock) -> None:
    log = SessionLog()
    with log.reader() as reader, trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, reader, 1)
            await trio.testing.wait_all_tasks_blocked()
            thread = threading.Thread(target=log.append, args=[LogEntry("from a thread")])
            thread.start()
            thread.join()


async def test_entries_carry_source_driver_type_and_time(log: SessionLog) -> None:
    with log.reader() as reader:
        driver("MockPower").info("power %s", "on")
        logging.getLogger("trio").error("one\ntwo")
        first, second, third = [(await anext(reader)).to_wire() for _ in range(3)]
    assert (first.source, first.severity, first.message) == (common_pb2.LOG_SOURCE_DRIVER, "INFO", "power on")
    assert (first.driver_type, first.uuid) == ("MockPower", "")
    assert first.timestamp.seconds > 1_700_000_000
    assert [second.message, third.message] == ["one", "two"]
    assert second.source == common_pb2.LOG_SOURCE_SYSTEM
    assert not second.HasField("driver_type")


async def test_only_the_exporter_says_what_a_user_has_to_notice_and_when_is_said_exactly(
    log: SessionLog,
) -> None:
    with log.reader() as reader:
        logging.getLogger("jumpstarter_exporter").warning("a lease waits", extra={"is_notice": True})
        logging.getLogger("jumpstarter_exporter").warning("nothing special")
        driver().warning("look at me", extra={"is_notice": True})
        logging.getLogger("hook.beforeLease").warning("before")
        logging.getLogger("hook.afterLease").warning("after")
        found = [(await anext(reader)).to_wire() for _ in range(5)]
    assert [dict(one.structured_fields) for one in found] == [{NOTICE: "1"}, {}, {}, {}, {}]
    assert [one.source for one in found[3:]] == [
        common_pb2.LOG_SOURCE_BEFORE_LEASE_HOOK,
        common_pb2.LOG_SOURCE_AFTER_LEASE_HOOK,
    ]
    stamp = LogEntry("x", time=3.25).to_wire().timestamp
    assert (stamp.seconds, stamp.nanos) == (3, 250_000_000)


@pytest.fixture
async def alone(log: SessionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pytest's own handlers, which raise what ours must not, and cannot pass on what no UTF-8 can say."""
    root = logging.getLogger()
    ours = [handler for handler in root.handlers if type(handler).__module__ == SessionLog.__module__]
    monkeypatch.setattr(root, "handlers", ours)


async def test_a_bad_log_call_hurts_nobody(
    monkeypatch: pytest.MonkeyPatch, log: SessionLog, alone: None
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    with log.reader() as reader:
        logging.getLogger("x").warning("%d", "text")
        logging.getLogger("x").warning("next")
        assert await take(reader, 1) == ["next"]


async def test_the_systems_debugging_stays_out_and_a_drivers_does_not(log: SessionLog) -> None:
    with log.reader() as reader:
        logging.getLogger("hpack.hpack").setLevel(logging.DEBUG)
        logging.getLogger("hpack.hpack").debug("passphrase")
        logging.getLogger("hpack.hpack").setLevel(logging.NOTSET)
        driver().debug("details")
        assert await take(reader, 1) == ["details"]


async def test_what_a_driver_logs_is_bounded_and_can_be_sent(log: SessionLog, alone: None) -> None:
    for message in ("x" * 3_000_000, "y\n" * 100_000, "\ud800z"):
        driver().info(message)
    with log.reader(from_start=True) as reader:
        entries = [await anext(reader) for _ in range(1 + MAX_LINES + 1)]
    assert [len(entry.message) for entry in entries[:2]] == [MAX_LINE_LENGTH, 1]
    assert entries[-1].to_wire().message == "\\ud800z"


async def test_two_sessions_never_read_each_others_calls_threads_and_tasks() -> None:
    async def work(log: SessionLog, name: str) -> None:
        async def task() -> None:
            driver().info("%s's task", name)

        log.bind()
        driver().info("%s's call", name)
        await trio.to_thread.run_sync(driver().info, "%s's thread", name)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task)

    ann, bob = SessionLog(), SessionLog()
    with dispatching():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, ann, "ann")
            nursery.start_soon(work, bob, "bob")
    for log, name in ((ann, "ann"), (bob, "bob")):
        with log.reader(from_start=True) as reader:
            said = await take(reader, 3)
            assert said == [f"{name}'s call", f"{name}'s thread", f"{name}'s task"]
            assert log.take(reader) is None


async def test_what_the_host_says_of_a_board_is_in_the_logs_of_its_sessions_and_of_no_others() -> None:
    board, other = BoardLog(), BoardLog()
    ann, bob, eve = SessionLog(), SessionLog(), SessionLog()
    with dispatching(), board.heard_by(ann), other.heard_by(eve):
        with board.heard_by(bob), board.bound():
            logging.getLogger("x").warning("unplugged")
        with board.bound():
            logging.getLogger("x").warning("back")
    for log, told in ((ann, ["unplugged", "back"]), (bob, ["unplugged"]), (eve, [])):
        with log.reader(from_start=True) as reader:
            assert await take(reader, len(told)) == told
            assert log.take(reader) is None


async def test_a_thread_of_a_drivers_own_is_in_the_hosts_log_alone(
    log: SessionLog, caplog: pytest.LogCaptureFixture
) -> None:
    thread = threading.Thread(target=driver().info, args=["from afar"])
    thread.start()
    thread.join()
    with log.reader(from_start=True) as reader:
        assert log.take(reader) is None
    assert caplog.messages == ["from afar"]


async def test_a_line_of_the_hosts_log_names_the_board_that_it_is_about() -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(LineFormatter())
    handler.addFilter(NameBoard())
    logging.getLogger().addHandler(handler)
    board = BoardLog("pi4-a")
    devices = Inventory().add("pi4-b", Spec(Composite, children={"console": Spec(Composite)}))
    said = logging.getLogger("x")
    try:
        said.warning("it is the host's")
        with board.bound():
            said.warning("it is the board's")
            await trio.to_thread.run_sync(said.warning, "from a thread")
            devices.slots["console"].unplugged("unplugged")  # by who knows all boards
        async with Session(Composite(), board=board) as session:
            session.notify("somebody takes part")
    finally:
        logging.getLogger().removeHandler(handler)
    assert written.getvalue().splitlines() == [
        "WARNING x: it is the host's",
        "WARNING x: pi4-a: it is the board's",
        "WARNING x: pi4-a: from a thread",
        "WARNING jumpstarter_exporter.devices.slot: pi4-b: the device console is missing: unplugged",
        "WARNING jumpstarter_exporter.session.session: pi4-a: somebody takes part",
    ]
