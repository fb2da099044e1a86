"""An exporter that is connected but does not answer, before anybody calls on its new connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from google.protobuf import empty_pb2
from jumpstarter_proto.rpc import Channel, StatusCode, open_channel, serve_connection
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.v1 import jumpstarter_pb2

from jumpstarter_client.conftest import POWER, FakeExporter, entry
from jumpstarter_client.errors import DriverError
from jumpstarter_client.transport import open_reconnecting
from jumpstarter_client.transport.reconnect import RETRY_SECONDS
from jumpstarter_client.tree import RESYNC_REPORT_SECONDS, open_client

NEW = [entry("root2"), entry("board2", "rpi4", "root2"), entry("switch2", "power", "board2", POWER)]


class Slow(FakeExporter):
    """Gives so many reports, and never another one until `again`; its connection can be cut."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 1
        self.dialled = 0
        self._end: trio.abc.Stream | None = None

    async def GetReport(self, request: empty_pb2.Empty, call: object) -> jumpstarter_pb2.GetReportResponse:  # noqa: N802
        if not self.left:
            await trio.sleep_forever()
        self.left -= 1
        return await super().GetReport(request, call)

    @asynccontextmanager
    async def dial(self) -> AsyncIterator[Channel]:
        self.dialled += 1
        ours, self._end = trio.testing.memory_stream_pair()
        with collapsed():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve_connection, self._end, [self])
                async with open_channel(ours) as channel:
                    yield channel
                nursery.cancel_scope.cancel()

    async def cut(self) -> None:
        assert self._end is not None
        await trio.aclose_forcefully(self._end)
        await trio.testing.wait_all_tasks_blocked()


async def test_one_that_never_answers_is_given_up_when_nobody_has_patience_any_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    exporter = Slow()
    async with open_reconnecting(exporter.dial) as channel, open_client(channel) as root:
        await exporter.cut()
        with (
            trio.fail_after(10 * RETRY_SECONDS),
            pytest.raises(DriverError, match="does not answer") as caught,
        ):
            await root.rpi4.power.call_async("on")
        assert caught.value.code is StatusCode.UNAVAILABLE
    assert RETRY_SECONDS <= trio.current_time() < RETRY_SECONDS + RESYNC_REPORT_SECONDS
    assert exporter.dialled == 1 + 3


async def test_one_that_stops_answering_behind_its_hook_is_dialled_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    exporter = Slow()
    async with open_reconnecting(exporter.dial) as channel, open_client(channel) as root:
        await exporter.cut()
        exporter.reports = NEW
        exporter.left = 1

        async def again() -> None:
            await trio.sleep(RESYNC_REPORT_SECONDS / 2)
            exporter.left = 10

        with trio.fail_after(10 * RETRY_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(again)
                await root.rpi4.power.call_async("on")
    assert trio.current_time() == pytest.approx(RESYNC_REPORT_SECONDS, abs=1)
    assert [uuid for uuid, _, _ in exporter.called] == ["switch2"]
