"""What handlers know of the connection on which a call came."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from jumpstarter_proto.health.v1 import health_pb2
from jumpstarter_proto.health.v1.health_grpc import HealthServicer, HealthStub
from jumpstarter_proto.rpc import (
    RpcError,
    ServedConnection,
    Server,
    ServerCall,
    connect_unix,
    open_channel,
    unix_listener,
)


class Health(HealthServicer):
    """Keeps the connections of its calls."""

    def __init__(self) -> None:
        self.connections: list[ServedConnection] = []
        self.uids: list[int | None] = []

    async def Check(  # noqa: N802
        self,
        request: health_pb2.HealthCheckRequest,
        call: ServerCall[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse],
    ) -> health_pb2.HealthCheckResponse:
        self.connections.append(call.connection)
        self.uids.append(call.uid)
        return health_pb2.HealthCheckResponse()


async def check(path: Path) -> None:
    async with open_channel(await connect_unix(path)) as channel:
        for _ in range(2):
            await HealthStub(channel).Check(health_pb2.HealthCheckRequest())


async def test_calls_of_one_connection_have_it_and_its_user_and_hear_of_its_end(tmp_path: Path) -> None:
    health = Health()
    async with trio.open_nursery() as nursery:
        server = Server([health])
        await nursery.start(server.serve, [unix_listener(tmp_path / "socket")])
        before = trio.current_time()
        await check(tmp_path / "socket")
        first, second = health.connections
        assert first is second
        assert first.heard >= before
        with trio.fail_after(10):
            await first.ended.wait()
        await check(tmp_path / "socket")
        assert health.connections[2] is not first
        assert health.uids == [os.getuid()] * 4
        nursery.cancel_scope.cancel()


async def test_a_connection_that_is_cut_tells_its_caller_why(tmp_path: Path) -> None:
    health = Health()
    async with trio.open_nursery() as nursery:
        await nursery.start(Server([health]).serve, [unix_listener(tmp_path / "socket")])
        async with open_channel(await connect_unix(tmp_path / "socket")) as channel:
            await HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            health.connections[0].cut("nothing was done for an hour")
            with trio.fail_after(10):
                await health.connections[0].ended.wait()
            with pytest.raises(RpcError, match="nothing was done for an hour"):
                await HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        nursery.cancel_scope.cancel()
