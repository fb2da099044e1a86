"""Connections that break under a client, and an exporter that is another one afterwards."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from google.protobuf import empty_pb2, timestamp_pb2
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.rpc import Channel, RpcError, StatusCode, open_channel, serve_connection
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.v1 import common_pb2, jumpstarter_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub

from jumpstarter_client.base import DriverClient
from jumpstarter_client.conftest import POWER, FakeExporter, FakeRouter, echo, entry
from jumpstarter_client.errors import DriverError
from jumpstarter_client.logs import MAX_REMEMBERED_ENTRIES, LogDeduplicator
from jumpstarter_client.transport import (
    ConnectionLostError,
    FinalError,
    ReconnectingChannel,
    open_reconnecting,
)
from jumpstarter_client.tree import open_client

UNAVAILABLE = StatusCode.UNAVAILABLE


class Way:
    """A way to an exporter that can be cut, blocked and closed for ever."""

    def __init__(self, exporter: FakeExporter) -> None:
        self.exporter = exporter
        self.dialled = 0
        self.refusal: RpcError | None = None
        self.open = trio.Event()
        self.open.set()
        self._end: trio.abc.Stream | None = None

    @asynccontextmanager
    async def dial(self) -> AsyncIterator[Channel]:
        self.dialled += 1
        await self.open.wait()
        if self.refusal is not None:
            raise self.refusal
        ours, theirs = trio.testing.memory_stream_pair()
        self._end = theirs
        with collapsed():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve_connection, theirs, [self.exporter, FakeRouter(self.exporter)])
                try:
                    async with open_channel(ours) as channel:
                        yield channel
                finally:
                    nursery.cancel_scope.cancel()

    async def cut(self) -> None:
        assert self._end is not None
        await trio.aclose_forcefully(self._end)
        await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
def way(exporter: FakeExporter) -> Way:
    return Way(exporter)


@pytest.fixture
async def channel(way: Way) -> AsyncIterator[ReconnectingChannel]:
    async with open_reconnecting(way.dial) as channel:
        yield channel


async def report(channel: ReconnectingChannel) -> None:
    await ExporterServiceStub(channel).GetReport(empty_pb2.Empty())


async def test_it_connects_for_the_first_call_once_for_all_who_wait(
    channel: ReconnectingChannel, way: Way
) -> None:
    assert way.dialled == 0
    way.open = trio.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(report, channel)
        await trio.testing.wait_all_tasks_blocked()
        way.open.set()
    assert way.dialled == 1


async def test_a_call_that_runs_when_the_connection_breaks_fails_at_once_and_is_not_made_again(
    channel: ReconnectingChannel, way: Way, exporter: FakeExporter
) -> None:
    exporter.methods["on"] = trio.sleep_forever
    async with open_client(channel) as root, trio.open_nursery() as nursery:

        async def cut() -> None:
            while not exporter.called:
                await trio.testing.wait_all_tasks_blocked()
            await way.cut()

        nursery.start_soon(cut)
        with pytest.raises(DriverError, match=r"lost the connection to the board.*check the board") as caught:
            await root.rpi4.power.call_async("on")
        assert caught.value.code is UNAVAILABLE
        assert way.dialled == 1, "nobody has called since"
        await root.rpi4.power.call_async("off")
    assert [method for _, method, _ in exporter.called] == ["on", "off"]
    assert way.dialled == 2


async def test_the_next_call_waits_for_the_new_connection(
    channel: ReconnectingChannel, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_client(channel) as root:
        await way.cut()
        way.open = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(root.rpi4.power.call_async, "on")
            await trio.testing.wait_all_tasks_blocked()
            assert not way.exporter.called
            way.open.set()
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "lost the connection to the board (the peer closed the connection); reconnecting",
        "reconnected to the board",
    ]


async def test_a_try_that_fails_fails_those_who_wait_and_the_next_tries_again(
    channel: ReconnectingChannel, way: Way
) -> None:
    way.refusal = RpcError(UNAVAILABLE, "the router is away")
    for number in (1, 2):
        with pytest.raises(RpcError, match="the router is away"):
            await report(channel)
        assert way.dialled == number
    way.refusal = None
    await report(channel)


async def test_after_the_end_every_call_fails_at_once_and_nobody_dials(
    channel: ReconnectingChannel, way: Way
) -> None:
    await report(channel)
    await way.cut()
    way.refusal = FinalError(StatusCode.UNKNOWN, "the lease has ended; create a new one")
    for _ in range(3):
        with pytest.raises(RpcError, match="the lease has ended") as caught:
            await report(channel)
        assert caught.value.code is StatusCode.UNKNOWN
    assert way.dialled == 2
    assert channel.shutdown_reason is not None
    assert "lease has ended" in (await channel.wait_closed()).details


async def test_who_waits_for_the_end_is_connected_again_and_hears_the_reason(
    channel: ReconnectingChannel, way: Way
) -> None:
    reasons: list[RpcError] = []
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            reasons.append(await channel.wait_closed())

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await way.cut()
        assert (way.dialled, reasons) == (2, [])
        way.refusal = RpcError(UNAVAILABLE, "nobody there")
        await way.cut()
    assert reasons[0].details == "nobody there"


async def test_a_stream_that_broke_says_so(
    channel: ReconnectingChannel, way: Way, exporter: FakeExporter
) -> None:
    exporter.stream = echo
    async with open_client(channel) as root, root.rpi4.power.stream_async() as stream:
        await stream.send_all(b"x")
        assert await stream.receive_some() == b"x"
        await way.cut()
        with pytest.raises(trio.BrokenResourceError, match="closed the connection"):
            await stream.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"y")
        async with root.rpi4.power.stream_async() as another:
            await another.send_all(b"z")
            assert await another.receive_some() == b"z"


async def test_a_restarted_exporter_is_known_again_by_its_paths(
    channel: ReconnectingChannel, way: Way, exporter: FakeExporter, caplog: pytest.LogCaptureFixture
) -> None:
    exporter.reports.append(entry("gone", "relay", "board", POWER))
    async with open_client(channel) as root:
        power, relay = root.rpi4.power, root.rpi4.relay
        await power.call_async("on")
        await way.cut()
        exporter.reports = [
            entry("root2"),
            entry("board2", "rpi4", "root2", color="red"),
            entry("new", "usb", "board2", POWER),
            entry("switch2", "power", "board2", POWER),
        ]
        await power.call_async("off")
        await root.rpi4.usb.call_async("on")
        with pytest.raises(DriverError, match=r"rpi4\.relay is gone: the exporter no longer has it"):
            await relay.call_async("on")
        assert root.rpi4.labels["jumpstarter.dev/color"] == "red"
    assert [uuid for uuid, _, _ in exporter.called] == ["switch", "switch2", "new"]
    assert "the exporter was restarted" in caplog.text


async def test_a_restarted_exporter_is_used_after_its_hook(
    channel: ReconnectingChannel, way: Way, exporter: FakeExporter, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_client(channel) as root:
        await way.cut()
        exporter.reports = [entry("root2"), entry("b2", "rpi4", "root2"), entry("s2", "power", "b2", POWER)]
        states = [common_pb2.EXPORTER_STATUS_BEFORE_LEASE_HOOK] * 50 + [
            common_pb2.EXPORTER_STATUS_LEASE_READY
        ]
        exporter.statuses = [jumpstarter_pb2.GetStatusResponse(status=state) for state in states]
        await root.rpi4.power.call_async("on")
    assert len(exporter.statuses) == 1
    assert [uuid for uuid, _, _ in exporter.called] == ["s2"]


async def test_a_board_that_is_refused_after_the_restart_says_why(
    channel: ReconnectingChannel, way: Way, exporter: FakeExporter
) -> None:
    async with open_client(channel) as root:
        await way.cut()
        exporter.reports = [entry("root2"), entry("b2", "rpi4", "root2")]
        failed = jumpstarter_pb2.GetStatusResponse(
            status=common_pb2.EXPORTER_STATUS_BEFORE_LEASE_HOOK_FAILED, message="no card"
        )
        exporter.statuses = [failed]
        with pytest.raises(DriverError, match="not ready for its lease: no card"):
            await root.rpi4.power.call_async("on")


async def test_a_connection_that_leads_nowhere_is_followed_by_another(
    way: Way, exporter: FakeExporter, autojump_clock: trio.testing.MockClock
) -> None:
    """As one whose other end the exporter could not take, or whose token was lost with a killed controller."""
    deaf = False

    @asynccontextmanager
    async def dial() -> AsyncIterator[Channel]:
        nonlocal deaf
        if deaf:
            deaf = False
            ours, _theirs = trio.testing.memory_stream_pair()
            async with open_channel(ours) as channel:
                yield channel
        else:
            async with way.dial() as channel:
                yield channel

    async with open_reconnecting(dial) as channel, open_client(channel) as root:
        await way.cut()
        deaf = True
        await root.rpi4.power.call_async("on")
    assert exporter.called


class Closing:
    """A way to a peer that takes each connection and closes it before anybody can use it."""

    def __init__(self) -> None:
        self.dialled = 0
        self.open: trio.abc.Stream | None = None
        self.is_closing = True

    @asynccontextmanager
    async def dial(self) -> AsyncIterator[Channel]:
        self.dialled += 1
        assert self.dialled < 1000, "it is dialled again and again, without a pause"
        ours, self.open = trio.testing.memory_stream_pair()
        async with open_channel(ours) as channel:
            if self.is_closing:
                await self.open.aclose()
                await channel.wait_closed()
            yield channel


async def test_a_peer_that_closes_each_connection_at_once_is_dialled_once_for_a_call(
    autojump_clock: trio.testing.MockClock,
) -> None:
    way = Closing()
    explained = RpcError(UNAVAILABLE, "no exporter is there")

    async def explain(error: RpcError) -> RpcError:
        assert error.details == "the peer closed the connection"
        return explained

    async with open_reconnecting(way.dial, explain=explain) as channel:
        with trio.fail_after(100), pytest.raises(RpcError) as caught:
            await report(channel)
    assert caught.value is explained
    assert way.dialled == 1


async def test_calls_that_are_repeated_dial_such_a_peer_with_pauses(
    autojump_clock: trio.testing.MockClock,
) -> None:
    way = Closing()
    async with open_reconnecting(way.dial) as channel:
        with trio.move_on_after(30):
            pytest.fail(f"it has not waited for a better connection: {await channel.wait_closed()}")
        assert 10 <= way.dialled <= 30
        for _ in range(5):
            with pytest.raises(ConnectionLostError, match="does not answer"):
                await report(channel)
        assert trio.current_time() >= 30 + 4 * 2
        way.is_closing = False
        await channel.wait_connected()
        await trio.sleep(1.5)
        way.is_closing = True
        assert way.open is not None
        await way.open.aclose()
        await trio.testing.wait_all_tasks_blocked()
        started = trio.current_time()
        for _ in range(2):
            with pytest.raises(ConnectionLostError):
                await report(channel)
        assert trio.current_time() == started, "a connection that lasts is no reason for a pause"


async def test_a_board_whose_peer_closes_each_connection_is_dialled_with_pauses_and_not_for_ever(
    way: Way, autojump_clock: trio.testing.MockClock
) -> None:
    closing = Closing()
    dial = way.dial

    @asynccontextmanager
    async def dialled() -> AsyncIterator[Channel]:
        async with dial() as channel:
            yield channel

    async with open_reconnecting(dialled, retry_seconds=30) as channel, open_client(channel) as root:
        await way.cut()
        dial = closing.dial
        started = trio.current_time()
        with pytest.raises(DriverError, match=r"does not answer"):
            await root.rpi4.power.call_async("on")
        assert 29 <= trio.current_time() - started <= 33
        assert 10 <= closing.dialled <= 30
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_fails, root, "the lease has ended")
            while (before := closing.dialled) <= 30:
                await trio.sleep(0.7)
            await trio.testing.wait_all_tasks_blocked()  # in a pause
            channel.shut_down(FinalError(UNAVAILABLE, "the lease has ended"))
        await trio.sleep(60)
    assert closing.dialled == before


async def _fails(root: DriverClient, reason: str) -> None:
    with pytest.raises(DriverError, match=reason):
        await root.rpi4.power.call_async("on")


async def test_logs_go_on_where_they_broke(
    channel: ReconnectingChannel, way: Way, exporter: FakeExporter
) -> None:
    def line(second: int, message: str) -> jumpstarter_pb2.LogStreamResponse:
        return jumpstarter_pb2.LogStreamResponse(
            severity="INFO", message=message, timestamp=timestamp_pb2.Timestamp(seconds=second)
        )

    exporter.log = [line(1, "one"), line(1, "two"), line(1, "one")]
    async with open_client(channel) as root:
        entries = root.logs_async()
        assert [(await anext(entries)).message for _ in range(3)] == ["one", "two", "one"]
        exporter.log.append(line(0, "three"))
        await way.cut()
        assert (await anext(entries)).message == "three"
        await entries.aclose()


def test_a_long_log_is_remembered_as_far_as_exporters_keep_theirs() -> None:
    news = LogDeduplicator()
    entries = [
        jumpstarter_pb2.LogStreamResponse(message=str(n), timestamp=timestamp_pb2.Timestamp(seconds=n))
        for n in range(2 * MAX_REMEMBERED_ENTRIES)
    ]
    assert all(news.is_new(one) for one in entries)
    news.reopened()
    assert not any(news.is_new(one) for one in entries[-MAX_REMEMBERED_ENTRIES:])
    assert all(news.is_new(one) for one in entries[:10]), "and no longer, however long it is"
    assert news.is_new(jumpstarter_pb2.LogStreamResponse(message="no time"))
    assert news.is_new(jumpstarter_pb2.LogStreamResponse(message="no time"))


async def test_an_end_with_a_reason_fails_what_runs_and_all_that_comes_with_it(
    channel: ReconnectingChannel, way: Way, exporter: FakeExporter
) -> None:
    exporter.methods["on"] = trio.sleep_forever
    reason = FinalError(UNAVAILABLE, "the lease has ended: its time is over")
    reason.exit_code = ExitCode.LEASE_ENDED
    async with open_client(channel) as root, trio.open_nursery() as nursery:

        async def end() -> None:
            while not exporter.called:
                await trio.testing.wait_all_tasks_blocked()
            channel.shut_down(reason)

        nursery.start_soon(end)
        for method in ("on", "off"):
            with pytest.raises(DriverError) as caught:
                await root.rpi4.power.call_async(method)
            assert caught.value.details == "the lease has ended: its time is over"
            assert caught.value.exit_code is ExitCode.LEASE_ENDED
        with pytest.raises(DriverError) as caught:
            await anext(root.rpi4.power.streamingcall_async("read"))
        assert caught.value.exit_code is ExitCode.LEASE_ENDED
    assert way.dialled == 1


async def test_whoever_waits_for_a_break_hears_of_each(channel: ReconnectingChannel, way: Way) -> None:
    broken = []

    async def watch() -> None:
        while True:
            await channel.wait_disconnected()
            broken.append(way.dialled)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        for _ in range(2):
            await report(channel)
            await way.cut()
        assert broken == [1, 2]
        assert way.dialled == 2, "nobody has called since"
        nursery.cancel_scope.cancel()


async def test_a_connection_that_is_left_fails_what_runs_and_the_next_call_has_a_new_one(
    channel: ReconnectingChannel, way: Way, exporter: FakeExporter, autojump_clock: trio.testing.MockClock
) -> None:
    exporter.methods["on"] = trio.sleep_forever
    async with open_client(channel) as root, trio.open_nursery() as nursery:

        async def leave() -> None:
            await trio.sleep(10)
            channel.disconnect()

        nursery.start_soon(leave)
        with (
            trio.fail_after(100),
            pytest.raises(DriverError, match="lost the connection to the board") as caught,
        ):
            await root.rpi4.power.call_async("on")
        assert caught.value.code is UNAVAILABLE
        await root.rpi4.power.call_async("off")
    assert way.dialled == 2


async def test_after_its_block_a_channel_dials_no_more(
    way: Way, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_reconnecting(way.dial) as channel:
        await report(channel)
    with trio.fail_after(100), pytest.raises(RpcError, match="the channel was closed"):
        await report(channel)
    assert channel.shutdown_reason is not None
    assert way.dialled == 1


@pytest.mark.parametrize("is_connected", [True, False])
async def test_who_calls_when_the_block_ends_hears_of_it(
    way: Way, is_connected: bool, autojump_clock: trio.testing.MockClock
) -> None:
    errors: list[str] = []

    async def call(channel: ReconnectingChannel) -> None:
        with pytest.raises(RpcError) as caught:
            await report(channel)
        errors.append(caught.value.details)

    async with trio.open_nursery() as nursery:
        with trio.fail_after(100):
            async with open_reconnecting(way.dial) as channel:
                if is_connected:
                    await report(channel)
                    way.exporter.refusal = RpcError(UNAVAILABLE, "later")
                    await way.cut()
                way.open = trio.Event()
                nursery.start_soon(call, channel)
                await trio.testing.wait_all_tasks_blocked()
    assert errors == ["the channel was closed"]
