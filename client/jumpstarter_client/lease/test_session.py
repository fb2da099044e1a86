"""The end of a session as its user sees it: hooks that print, that fail, that hang, and sessions that do not answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from jumpstarter_proto.rpc import Channel, open_channel, serve_connection
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.v1 import common_pb2, jumpstarter_pb2

from jumpstarter_client.conftest import FakeExporter
from jumpstarter_client.lease.board import END_SECONDS, SessionLogPrinter, end_session, warn_of_hook
from jumpstarter_client.transport import ReconnectingChannel, open_reconnecting

LEASED, HOOK, FAILED, AVAILABLE = (
    common_pb2.EXPORTER_STATUS_LEASE_READY,
    common_pb2.EXPORTER_STATUS_AFTER_LEASE_HOOK,
    common_pb2.EXPORTER_STATUS_AFTER_LEASE_HOOK_FAILED,
    common_pb2.EXPORTER_STATUS_AVAILABLE,
)


class Session(FakeExporter):
    """One that can be ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = True
        self.hangs = False
        self.ended = 0
        self.log = []

    async def EndSession(self, request: object, call: object) -> jumpstarter_pb2.EndSessionResponse:  # noqa: N802
        self.ended += 1
        if self.hangs:
            await trio.sleep_forever()
        return jumpstarter_pb2.EndSessionResponse(success=self.ends)


def status(which: common_pb2.ExporterStatus, message: str = "") -> jumpstarter_pb2.GetStatusResponse:
    return jumpstarter_pb2.GetStatusResponse(status=which, message=message)


def said(text: str, source: common_pb2.LogSource) -> jumpstarter_pb2.LogStreamResponse:
    return jumpstarter_pb2.LogStreamResponse(severity="INFO", message=text, source=source)


@asynccontextmanager
async def connected(session: FakeExporter) -> AsyncIterator[ReconnectingChannel]:
    @asynccontextmanager
    async def dial() -> AsyncIterator[Channel]:
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_connection, theirs, [session])
            async with open_channel(ours) as channel:
                yield channel
            nursery.cancel_scope.cancel()

    with collapsed():
        async with open_reconnecting(dial) as channel:
            yield channel


async def end(session: FakeExporter, on_message: Callable[[str], None], *, everything: bool = False) -> None:
    async with connected(session) as channel, trio.open_nursery() as nursery:
        log = SessionLogPrinter(channel, hooks=True, everything=everything)
        nursery.start_soon(log.run)
        await trio.testing.wait_all_tasks_blocked()
        await end_session(channel, log, on_message)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("last", "warnings"),
    [
        (status(AVAILABLE, "Available for new lease"), []),
        (status(AVAILABLE, "[HOOK_WARNING] it is warm"), ["warning: it is warm"]),
        (status(FAILED, "it broke"), ["warning: it broke"]),
        (status(FAILED), ["warning: the afterLease hook failed"]),
    ],
)
async def test_it_is_waited_for_and_what_went_wrong_is_a_warning(
    autojump_clock: trio.testing.MockClock, last: jumpstarter_pb2.GetStatusResponse, warnings: list[str]
) -> None:
    session = Session()
    session.statuses = [status(LEASED), status(HOOK), status(HOOK), last]
    told: list[str] = []
    await end(session, told.append)
    assert (session.ended, told) == (1, warnings)
    assert session.statuses == [last], "it was asked until then"


async def test_what_hooks_print_is_shown_and_the_rest_if_asked(
    autojump_clock: trio.testing.MockClock, capfd: pytest.CaptureFixture[str]
) -> None:
    for everything, shown in (
        (False, ["afterLease: cold\\x1b[2J"]),
        (True, ["INFO     on", "afterLease: cold\\x1b[2J"]),
    ):
        session = Session()
        session.log = [
            said("on", common_pb2.LOG_SOURCE_DRIVER),
            said("cold\x1b[2J", common_pb2.LOG_SOURCE_AFTER_LEASE_HOOK),
        ]
        session.statuses = [status(AVAILABLE)]
        await end(session, lambda _: None, everything=everything)
        assert capfd.readouterr().err.splitlines() == shown


async def test_a_hook_that_hangs_is_left_and_so_is_a_session_that_does_not_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    session = Session()
    session.statuses = [status(HOOK)]
    told: list[str] = []
    begun = trio.current_time()
    await end(session, told.append)
    assert END_SECONDS <= trio.current_time() - begun < END_SECONDS + 10
    assert told == [
        "warning: the afterLease hook has not finished after 300 s; it continues in the background"
    ]
    session.hangs = True
    begun = trio.current_time()
    await end(session, told.append)
    assert trio.current_time() - begun < 10
    assert len(told) == 1


async def test_one_before_hooks_or_without_a_lease_is_let_be(autojump_clock: trio.testing.MockClock) -> None:
    told: list[str] = []
    await end(FakeExporter(), told.append)
    session = Session()
    session.ends = False
    await end(session, told.append)
    assert told == []
    warn_of_hook(None, told.append)
    warn_of_hook(status(LEASED, "Ready for commands"), told.append)
    assert told == []
