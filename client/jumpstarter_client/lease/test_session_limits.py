"""How long the end of a session waits for what its exporter still has to say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from jumpstarter_proto.rpc import Channel, ServerCall, open_channel, serve_connection
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.v1 import common_pb2, jumpstarter_pb2

from jumpstarter_client.lease.board import (
    CALL_SECONDS,
    LOG_DRAIN_SECONDS,
    LOG_QUIET_SECONDS,
    SessionLogPrinter,
    end_session,
)
from jumpstarter_client.lease.conftest import BoardExporter
from jumpstarter_client.transport import ReconnectingChannel, open_reconnecting

EACH = LOG_QUIET_SECONDS / 2
LEASED = common_pb2.EXPORTER_STATUS_LEASE_READY
HOOK = common_pb2.EXPORTER_STATUS_AFTER_LEASE_HOOK
FAILED = common_pb2.EXPORTER_STATUS_AFTER_LEASE_HOOK_FAILED


class Chatty(BoardExporter):
    """Its hook prints so many lines, none of them longer than a moment after the one before."""

    def __init__(self, lines: float) -> None:
        super().__init__()
        self.lines = lines
        self.readers = 0

    async def LogStream(  # noqa: N802
        self, request: object, call: ServerCall[Any, jumpstarter_pb2.LogStreamResponse]
    ) -> None:
        self.readers += 1
        try:
            await call.send_initial_metadata()
            number = 0
            while number < self.lines:
                await trio.sleep(EACH)
                number += 1
                hook = common_pb2.LOG_SOURCE_AFTER_LEASE_HOOK
                await call.send(jumpstarter_pb2.LogStreamResponse(message=f"line {number}", source=hook))
            await trio.sleep_forever()
        finally:
            self.readers -= 1


@asynccontextmanager
async def reached(session: BoardExporter) -> AsyncIterator[ReconnectingChannel]:
    @asynccontextmanager
    async def dial() -> AsyncIterator[Channel]:
        ours, theirs = trio.testing.memory_stream_pair()

        async def cut() -> None:
            await session.breaks.wait()
            session.breaks = trio.Event()
            await trio.aclose_forcefully(theirs)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_connection, theirs, [session])
            nursery.start_soon(cut)
            async with open_channel(ours) as channel:
                yield channel
            nursery.cancel_scope.cancel()

    with collapsed():
        async with open_reconnecting(dial) as channel:
            yield channel


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [(0, LOG_QUIET_SECONDS), (9, 9 * EACH + LOG_QUIET_SECONDS), (float("inf"), LOG_DRAIN_SECONDS)],
)
async def test_the_last_lines_of_a_hook_are_waited_for_but_not_for_ever(
    lines: float, seconds: float, autojump_clock: trio.testing.MockClock, capfd: pytest.CaptureFixture[str]
) -> None:
    async with reached(Chatty(lines)) as channel, trio.open_nursery() as nursery:
        log = SessionLogPrinter(channel, hooks=True, everything=False)
        nursery.start_soon(log.run)
        await trio.testing.wait_all_tasks_blocked()
        begun = trio.current_time()
        with trio.fail_after(20):
            await log.drain()
        assert trio.current_time() - begun == pytest.approx(seconds, abs=EACH / 2)
        nursery.cancel_scope.cancel()
    if lines == 9:
        assert len(capfd.readouterr().err.splitlines()) == 9


@pytest.mark.parametrize("before", [LEASED, HOOK], ids=["no hook", "a hook"])
async def test_a_hook_that_is_over_before_anybody_asks_is_heard_to_its_end(
    before: common_pb2.ExporterStatus,
    autojump_clock: trio.testing.MockClock,
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Quick(Chatty):
        async def GetStatus(self, request: object, call: object) -> jumpstarter_pb2.GetStatusResponse:  # noqa: N802
            return jumpstarter_pb2.GetStatusResponse(status=self.status, previous_status=before)

    async with reached(Quick(1)) as channel, trio.open_nursery() as nursery:
        log = SessionLogPrinter(channel, hooks=True, everything=False)
        nursery.start_soon(log.run)
        await trio.testing.wait_all_tasks_blocked()
        await end_session(channel, log, pytest.fail)
        nursery.cancel_scope.cancel()
    assert capfd.readouterr().err.splitlines() == (["afterLease: line 1"] if before == HOOK else [])
    assert (trio.current_time() > 0) == (before == HOOK), "without a hook nothing is waited for"


async def test_a_hook_that_was_seen_to_run_is_heard_to_its_end(
    autojump_clock: trio.testing.MockClock, capfd: pytest.CaptureFixture[str]
) -> None:
    class ExporterView(Chatty):
        """It says how it is, and not how it was."""

        asked = 0

        async def GetStatus(self, request: object, call: object) -> jumpstarter_pb2.GetStatusResponse:  # noqa: N802
            self.asked += 1
            return jumpstarter_pb2.GetStatusResponse(status=HOOK if self.asked == 1 else self.status)

    async with reached(ExporterView(9)) as channel, trio.open_nursery() as nursery:
        log = SessionLogPrinter(channel, hooks=True, everything=False)
        nursery.start_soon(log.run)
        await trio.testing.wait_all_tasks_blocked()
        await end_session(channel, log, pytest.fail)
        nursery.cancel_scope.cancel()
    assert len(capfd.readouterr().err.splitlines()) == 9


async def test_a_hook_is_waited_for_over_another_connection_when_one_breaks_during_the_question(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Broken(BoardExporter):
        asked = 0

        async def GetStatus(self, request: object, call: object) -> jumpstarter_pb2.GetStatusResponse:  # noqa: N802
            self.asked += 1
            if self.asked == 2:
                self.breaks.set()
                await trio.sleep_forever()
            elif self.asked == 4:
                self.status = FAILED
            return await super().GetStatus(request, call)

    session = Broken()
    session.after = HOOK
    told: list[str] = []
    async with reached(session) as channel:
        log = SessionLogPrinter(channel, hooks=True, everything=False)
        with trio.fail_after(100):
            await end_session(channel, log, told.append)
    assert told == ["warning: the afterLease hook failed"]


@pytest.mark.parametrize("is_heard", [True, False])
async def test_a_wish_to_end_is_told_again_when_the_connection_breaks_during_it(
    is_heard: bool, autojump_clock: trio.testing.MockClock
) -> None:
    class Broken(BoardExporter):
        asked = 0

        async def EndSession(  # noqa: N802
            self, request: object, call: object
        ) -> jumpstarter_pb2.EndSessionResponse:
            self.asked += 1
            answer = await super().EndSession(request, call) if is_heard or self.asked > 1 else None
            if self.asked == 1:
                self.breaks.set()
                await trio.sleep_forever()
            assert answer is not None
            return answer

    session = Broken()
    session.after = FAILED
    told: list[str] = []
    async with reached(session) as channel:
        log = SessionLogPrinter(channel, hooks=True, everything=False)
        with trio.fail_after(100):
            await end_session(channel, log, told.append)
    assert session.asked == 2
    assert told == ["warning: the afterLease hook failed"]


@pytest.mark.parametrize("hook", [LEASED, HOOK], ids=["before its hook", "in its hook"])
async def test_an_exporter_that_is_restarted_after_it_has_heard_the_wish_hears_it_again(
    hook: common_pb2.ExporterStatus, autojump_clock: trio.testing.MockClock
) -> None:
    class Restarted(BoardExporter):
        async def GetStatus(self, request: object, call: object) -> jumpstarter_pb2.GetStatusResponse:  # noqa: N802
            report = await super().GetStatus(request, call)
            if self.after == hook:
                # The next process has the lease anew.
                self.status, self.after = LEASED, FAILED
                self.breaks.set()
            return report

    session = Restarted()
    session.after = hook
    told: list[str] = []
    async with reached(session) as channel:
        with trio.fail_after(CALL_SECONDS):
            await end_session(channel, SessionLogPrinter(channel, hooks=True, everything=False), told.append)
    assert session.ended == 2
    assert told == ["warning: the afterLease hook failed"]


async def test_a_session_that_cannot_be_reached_any_more_holds_nobody_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Gone(BoardExporter):
        async def EndSession(self, request: object, call: object) -> jumpstarter_pb2.EndSessionResponse:  # noqa: N802
            self.breaks.set()
            await trio.sleep_forever()
            raise AssertionError

    session = Gone()
    told: list[str] = []
    async with reached(session) as channel:
        began = trio.current_time()
        await end_session(channel, SessionLogPrinter(channel, hooks=True, everything=False), told.append)
    assert trio.current_time() - began <= CALL_SECONDS
    assert told == []


async def test_a_log_is_not_read_any_longer_when_its_reader_is_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    session = Chatty(0)
    async with reached(session) as channel:
        log = SessionLogPrinter(channel, hooks=True, everything=False)
        with trio.move_on_after(1):
            await log.run()
        await trio.testing.wait_all_tasks_blocked()
        assert session.readers == 0


async def test_a_session_that_stops_answering_while_its_hook_runs_is_left(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Stuck(BoardExporter):
        async def GetStatus(self, request: object, call: object) -> jumpstarter_pb2.GetStatusResponse:  # noqa: N802
            if trio.current_time() > 10:
                await trio.sleep_forever()
            return await super().GetStatus(request, call)

    session = Stuck()
    session.after = common_pb2.EXPORTER_STATUS_AFTER_LEASE_HOOK
    async with reached(session) as channel:
        log = SessionLogPrinter(channel, hooks=True, everything=False)
        with trio.fail_after(100):
            await end_session(channel, log, pytest.fail)
    assert trio.current_time() == pytest.approx(10 + CALL_SECONDS, abs=1)
