"""What a server waits for when it shuts down."""

from __future__ import annotations

import trio
import trio.testing

from jumpstarter_proto.rpc import Server, open_channel
from jumpstarter_proto.rpc.conftest import UNARY, Bytes, Echo


async def test_an_idle_connection_delays_no_shutdown(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    server = Server([Echo()])
    nursery.start_soon(server.serve_connection, theirs)
    async with open_channel(ours) as channel:
        await channel.unary(UNARY, Bytes())
        await trio.testing.wait_all_tasks_blocked()
        await server.shutdown(60)
    assert trio.current_time() < 1
