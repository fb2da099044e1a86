"""What of recordings users on the network see."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing
from jumpstarter_proto.rpc import ServerCall, open_channel, serve_connection
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceServicer, ExporterServiceStub

from jumpstarter_exporter.visibility import LEAVE_SECONDS, Visits, see_all, see_since, sees_since


class Desk(ExporterServiceServicer):
    """Says since when its caller is here."""

    def __init__(self) -> None:
        self.visits = Visits()

    async def GetStatus(  # noqa: N802
        self, request: pb.GetStatusRequest, call: ServerCall[Any, Any]
    ) -> pb.GetStatusResponse:
        return pb.GetStatusResponse(message=str(self.visits.since(call)))

    @asynccontextmanager
    async def visit(self) -> AsyncIterator[ExporterServiceStub]:
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_connection, theirs, [self])
            async with open_channel(ours) as channel:
                yield ExporterServiceStub(channel)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()


async def since(stub: ExporterServiceStub) -> float:
    return float((await stub.GetStatus(pb.GetStatusRequest())).message)


async def test_a_visit_lasts_as_long_as_a_connection_and_a_while_behind_the_last(
    mock_clock: trio.testing.MockClock,
) -> None:
    desk, before = Desk(), time.time()
    async with desk.visit() as first:
        began = await since(first)
        assert began >= before
        mock_clock.jump(1000)
        async with desk.visit() as second:
            assert await since(second) == began
        mock_clock.jump(1000)
        async with desk.visit() as third:
            assert await since(third) == began, "the first is there still"
    mock_clock.jump(LEAVE_SECONDS - 1)
    async with desk.visit() as again:
        assert await since(again) == began, "between two commands there is no connection"
    mock_clock.jump(LEAVE_SECONDS)
    async with desk.visit() as new:
        assert await since(new) > began


async def test_what_is_hidden_stays_hidden() -> None:
    assert sees_since(5.0) == 5.0, "as the session says"
    see_since(7.0)
    see_since(3.0)
    assert (sees_since(0.0), sees_since(9.0)) == (7.0, 9.0)
    see_all()
    assert sees_since(9.0) == 0.0
