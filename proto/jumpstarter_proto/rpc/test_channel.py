"""When a call may start and how long it may take, as its caller sees it."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from jumpstarter_proto.errors import JumpstarterUsageError
from jumpstarter_proto.rpc import Options, RpcError, StatusCode
from jumpstarter_proto.rpc.conftest import STREAM, UNARY, Bytes, Connect


async def test_a_timeout_bounds_the_whole_block_of_a_stream(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    async with connect() as pair:
        with trio.fail_after(60), pytest.raises(RpcError, match=r"within 5 s; .* try again") as caught:
            async with pair.channel.stream(STREAM, timeout=5):
                await trio.sleep_forever()
        assert caught.value.code is StatusCode.DEADLINE_EXCEEDED


async def test_a_call_that_cannot_start_leaves_its_place_to_the_next(connect: Connect) -> None:
    async with connect(server=Options(max_streams=1)) as pair, trio.open_nursery() as nursery:
        await pair.channel.unary(UNARY, Bytes())  # by now the server has said what it takes

        async def wrong() -> None:
            with pytest.raises(JumpstarterUsageError):
                await pair.channel.unary(UNARY, Bytes(), metadata=[("No name", "x")])

        async def right() -> None:
            with trio.fail_after(10):
                await pair.channel.unary(UNARY, Bytes())

        async with pair.channel.stream(STREAM):
            for call in (wrong, right):
                nursery.start_soon(call)
                await trio.testing.wait_all_tasks_blocked()
