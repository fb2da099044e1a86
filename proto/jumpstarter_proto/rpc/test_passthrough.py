"""Messages of one call that go on to another when they come: in order, and no faster than it takes them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
import trio.testing

from jumpstarter_proto.rpc import (
    Cardinality,
    ClientCall,
    Method,
    ServerCall,
    Servicer,
    open_channel,
    serve_connection,
)
from jumpstarter_proto.rpc.conftest import Bytes, socket_pair

MEET = Method("/test.Relay/Meet", Cardinality.STREAM_STREAM, Bytes, Bytes)
Call = ServerCall[Bytes, Bytes]
Ours = ClientCall[Bytes, Bytes]


class Relay(Servicer):
    """The first call waits for the second; what comes on the first goes out on the second."""

    METHODS = (MEET,)

    def __init__(self, passes: float) -> None:
        self.passes = passes
        """The share of messages that are passed on at once, where that is possible."""
        self.first: Call | None = None
        self.passed = self.copied = 0
        self._is_copying = False
        self._over = trio.Event()

    async def Meet(self, call: Call) -> None:  # noqa: N802
        await call.send_initial_metadata()
        if self.first is None:
            self.first = call
            await self._over.wait()
            return
        choice = random.Random(7)

        def passed(size: int) -> bool:
            goes = not self._is_copying and choice.random() < self.passes
            self.passed += goes
            return goes

        self.first.pass_on_to(call, passed)
        async for message in self.first:
            self._is_copying = True
            await call.send(message)
            self._is_copying = False
            self.copied += 1
        self._over.set()


@asynccontextmanager
async def two_calls(relay: Relay) -> AsyncIterator[tuple[Ours, Ours]]:
    """First the one that sends, then the one that receives."""
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        calls = []
        for _ in range(2):
            ours, theirs = socket_pair()
            nursery.start_soon(serve_connection, theirs, [relay])
            channel = await stack.enter_async_context(open_channel(ours))
            calls.append(await stack.enter_async_context(channel.stream(MEET)))
            await calls[-1].initial_metadata()
        yield calls[0], calls[1]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("passes", [0.0, 0.5, 1.0])
async def test_messages_keep_their_order_whichever_way_they_take(passes: float) -> None:
    relay = Relay(passes)
    sizes = random.Random(1)
    messages = [
        number.to_bytes(4, "big") * sizes.choice((1, 1, 1, 2_000, 20_000, 300_000)) for number in range(300)
    ]
    received = []
    async with two_calls(relay) as (source, target), trio.open_nursery() as nursery:

        async def send() -> None:
            for message in messages:
                await source.send(Bytes(value=message))
            await source.send_eof()

        nursery.start_soon(send)
        async for message in target:
            received.append(message.value)
            if len(received) in {20, 200}:
                await trio.testing.wait_all_tasks_blocked()  # the sender fills all windows meanwhile
    assert received == messages
    assert relay.passed + relay.copied == len(messages)
    assert bool(relay.passed) == (passes > 0)
    assert relay.copied, "a reader that stops was never waited for"


async def test_a_reader_that_stops_stops_the_sender() -> None:
    relay = Relay(1.0)
    sent = 0
    async with two_calls(relay) as (source, target), trio.open_nursery() as nursery:

        async def flood() -> None:
            nonlocal sent
            while True:
                await source.send(Bytes(value=bytes(65536)))
                sent += 65536

        nursery.start_soon(flood)
        await trio.testing.wait_all_tasks_blocked(0.05)
        stopped = sent
        # Two windows of 1 MiB, and what waits in sockets and in front of them.
        assert 1024 * 1024 <= stopped <= 4 * 1024 * 1024
        for _ in range(16):
            await target.receive()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert sent > stopped
        nursery.cancel_scope.cancel()
