"""The log that users follow."""

from __future__ import annotations

import logging
import threading

import pytest
import trio
from jumpstarter_proto.v1 import common_pb2

from jumpstarter_exporter.logs import (
    MAX_LINE_LENGTH,
    MAX_LINES,
    BroadcastHandler,
    BroadcastLog,
    Entry,
    Reader,
)


async def take(reader: Reader, count: int) -> list[str]:
    return [(await anext(reader)).message for _ in range(count)]


async def test_each_reader_gets_every_entry() -> None:
    log = BroadcastLog()
    with log.reader() as first, log.reader() as second:
        for number in range(3):
            log.append(Entry(str(number)))
        assert await take(first, 3) == await take(second, 3) == ["0", "1", "2"]


async def test_a_new_reader_starts_now_or_with_what_is_kept() -> None:
    log = BroadcastLog(kept=2)
    for number in range(3):
        log.append(Entry(str(number)))
    with log.reader() as now, log.reader(from_start=True) as before:
        log.append(Entry("3"))
        assert await take(now, 1) == ["3"]
        assert await take(before, 3) == ["1 entries dropped, this reader is too slow", "2", "3"]


async def test_a_slow_reader_is_told_how_much_it_missed_and_others_are_not() -> None:
    log = BroadcastLog(kept=4)
    with log.reader() as slow, log.reader() as quick:
        for number in range(10):
            log.append(Entry(str(number)))
            assert await take(quick, 1) == [str(number)]
        told = await anext(slow)
        assert (told.message, told.severity) == ("6 entries dropped, this reader is too slow", "WARNING")
        assert await take(slow, 4) == ["6", "7", "8", "9"]


async def test_an_entry_from_a_thread_wakes_a_waiting_reader(autojump_clock: trio.testing.MockClock) -> None:
    log = BroadcastLog()
    with log.reader() as reader, trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, reader, 1)
            await trio.testing.wait_all_tasks_blocked()
            thread = threading.Thread(target=log.append, args=[Entry("from a thread")])
            thread.start()
            thread.join()


async def test_entries_carry_source_driver_type_and_time() -> None:
    log = BroadcastLog()
    handler = BroadcastHandler(log)
    with log.reader() as reader:
        handler.emit(logging.LogRecord("driver.MockPower", logging.INFO, "", 0, "power %s", ("on",), None))
        handler.emit(logging.LogRecord("trio", logging.ERROR, "", 0, "one\ntwo", (), None))
        first, second, third = [(await anext(reader)).to_wire() for _ in range(3)]
    assert (first.source, first.severity, first.message) == (common_pb2.LOG_SOURCE_DRIVER, "INFO", "power on")
    assert (first.driver_type, first.uuid) == ("MockPower", "")
    assert first.timestamp.seconds > 1_700_000_000
    assert [second.message, third.message] == ["one", "two"]
    assert second.source == common_pb2.LOG_SOURCE_SYSTEM
    assert not second.HasField("driver_type")


async def test_a_bad_log_call_hurts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log = BroadcastLog()
    with log.reader() as reader:
        BroadcastHandler(log).emit(logging.LogRecord("x", logging.INFO, "", 0, "%d", ("text",), None))
        assert log.take(reader) is None


async def test_the_systems_debugging_stays_out_and_a_drivers_does_not() -> None:
    log = BroadcastLog()
    handler = BroadcastHandler(log)
    with log.reader() as reader:
        handler.emit(logging.LogRecord("hpack.hpack", logging.DEBUG, "", 0, "passphrase", (), None))
        handler.emit(logging.LogRecord("driver.MockPower", logging.DEBUG, "", 0, "details", (), None))
        assert await take(reader, 1) == ["details"]
        assert log.take(reader) is None


async def test_what_a_driver_logs_is_bounded_and_can_be_sent() -> None:
    log = BroadcastLog()
    handler = BroadcastHandler(log)
    for message in ("x" * 3_000_000, "y\n" * 100_000, "\ud800z"):
        handler.emit(logging.LogRecord("driver.power", logging.INFO, "", 1, message, (), None))
    with log.reader(from_start=True) as reader:
        entries = [await anext(reader) for _ in range(1 + MAX_LINES + 1)]
    assert [len(entry.message) for entry in entries[:2]] == [MAX_LINE_LENGTH, 1]
    assert entries[-1].to_wire().message == "\\ud800z"
