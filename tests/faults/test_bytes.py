"""Two programs, each kind of way between them that we have, and random orders of everything that can happen to bytes.

`JUMPSTARTER_TEST_ORDERS=1000 JUMPSTARTER_TEST_ORDER_BYTES=5000000` plays as many of each kind, with as much each way;
`make orders` does. The log has the figures of each kind.
"""

from __future__ import annotations

import logging
import os
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TypeAlias

import pytest
import trio
import trio.testing
from jumpstarter_client.adapters import tcp_portforward
from jumpstarter_controller.router import ROUTER_OPTIONS, RouterService, RouterTokens
from jumpstarter_drivers.network.driver import TcpNetwork
from jumpstarter_drivers.testing import serve_async
from jumpstarter_proto.byte_streams.router_stream import RouterStream
from jumpstarter_proto.rpc import Server, open_channel
from jumpstarter_proto.rpc._tls import TlsStream
from jumpstarter_proto.rpc.conftest import contexts, socket_pair, tls_pair
from jumpstarter_proto.v1.router_grpc import RouterServiceStub
from trio.testing import MockClock

from tests.support.joined import Program, joined_over, play, tcp, wire

__all__ = ["contexts"]

ORDERS = int(os.environ.get("JUMPSTARTER_TEST_ORDERS", "8"))
"""Of each kind; the number of an order is its seed."""
BYTES = int(os.environ.get("JUMPSTARTER_TEST_ORDER_BYTES", "200000"))
"""About as many go each way."""
SECONDS = 60.0
"""More than any order takes."""
TOKENS = RouterTokens(b"k" * 32)

_log = logging.getLogger(__name__)

Contexts: TypeAlias = "tuple[ssl.SSLContext, ssl.SSLContext]"
Join: TypeAlias = "Callable[[], Awaitable[None]]"
Pair: TypeAlias = "tuple[trio.abc.Stream, trio.abc.Stream]"
Way: TypeAlias = "Callable[[Contexts, Program, Program], AbstractAsyncContextManager[Join]]"


def program(dice: random.Random) -> Program:
    """What one of the two does."""
    pieces = [dice.randint(1, 2 * BYTES // 4) for _ in range(dice.choice([0, 1, 4, 4, 4]))]
    pauses = [dice.choice([0, 0, 0.0005, 0.002]) for _ in range(dice.randint(0, 3))]
    return Program(pieces, pauses, dice.choice(["half-close", "half-close", "half-close", "reset"]))


@asynccontextmanager
async def in_memory(_: Contexts, one: Program, other: Program) -> AsyncIterator[Join]:
    """Through a call, with nothing of the kernel's."""
    one.stream, near = wire()
    other.stream, far = wire()
    async with joined_over(trio.testing.memory_stream_pair(), near, far) as join_them:
        yield join_them


def over(carrier: Callable[[Contexts], Awaitable[Pair]]) -> Way:
    """Through a call on a connection of that kind, between TCP connections."""

    @asynccontextmanager
    async def way(contexts: Contexts, one: Program, other: Program) -> AsyncIterator[Join]:
        one.stream, near = await tcp()
        other.stream, far = await tcp()
        async with joined_over(await carrier(contexts), near, far) as join_them:
            yield join_them

    return way


async def unix(_: Contexts) -> Pair:
    return socket_pair()


async def plain_tcp(_: Contexts) -> Pair:
    return await tcp()


@asynccontextmanager
async def through_a_router(contexts: Contexts, one: Program, other: Program) -> AsyncIterator[Join]:
    """As of a board of a controller: both have a TLS connection to the router, and in it one to each other."""
    one.stream, near = await tcp()
    other.stream, far = await tcp()
    server, token = Server([RouterService(TOKENS)], options=ROUTER_OPTIONS), TOKENS.issue()
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        ends = []
        for _ in range(2):
            plain, far_end = socket_pair()
            nursery.start_soon(server.serve_connection, TlsStream(far_end, contexts[1]))
            ours = TlsStream(plain, contexts[0], server_hostname="localhost")
            await ours.do_handshake()
            metadata = [("authorization", f"Bearer {token}")]
            channel = await stack.enter_async_context(open_channel(ours, metadata=metadata))
            call = await stack.enter_async_context(RouterServiceStub(channel).Stream())
            ends.append(RouterStream.client(call))
        async with joined_over((ends[0], ends[1]), near, far) as join_them:
            yield join_them
        await stack.aclose()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def through_a_session(_: Contexts, one: Program, other: Program) -> AsyncIterator[Join]:
    """As `forward-tcp` does: a local port, a client, an exporter's session and its driver."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    host, port = listener.socket.getsockname()
    leaves, left = trio.Event(), trio.Event()
    async with (
        listener,
        serve_async(TcpNetwork(host=host, port=port)) as client,
        trio.open_nursery() as nursery,
    ):

        async def forward(*, task_status: trio.TaskStatus[tuple[str, int]]) -> None:
            async with tcp_portforward(client) as address:
                task_status.started(address)
                await leaves.wait()
            left.set()

        one.stream = await trio.open_tcp_stream(*await nursery.start(forward))
        other.stream = await listener.accept()

        async def join_them() -> None:
            try:
                await one.over.wait()
                await other.over.wait()
            finally:
                leaves.set()
                with trio.CancelScope(shield=True):
                    await left.wait()

        yield join_them


WAYS: dict[str, Way] = {
    "memory": in_memory,
    "unix": over(unix),
    "tcp": over(plain_tcp),
    "tls": over(tls_pair),
    "router": through_a_router,
    "session": through_a_session,
}


@pytest.mark.timeout(120 + 6 * ORDERS)
@pytest.mark.parametrize("kind", WAYS)
def test_no_byte_is_lost_without_an_error_in_any_order(kind: str, contexts: Contexts) -> None:
    arrived = whole = 0

    async def play_it(seed: int) -> None:
        nonlocal arrived, whole
        dice = random.Random(f"{kind} {seed}")
        one, other = program(dice), program(dice)
        leave_after = dice.choice([None, None, 0.0, 0.005, 0.02, 0.1])
        with trio.fail_after(SECONDS if kind != "memory" else 100 * SECONDS):
            async with WAYS[kind](contexts, one, other) as join_them:
                await play(one, other, join_them, leave_after)
        arrived += len(one.got) + len(other.got)
        whole += one.heard == other.heard == "end"

    for seed in range(ORDERS):
        try:
            trio.run(play_it, seed, clock=MockClock(autojump_threshold=0) if kind == "memory" else None)
        except BaseException as error:
            error.add_note(f"order {seed} of {kind}, {BYTES} bytes")
            raise
    _log.info("%s: %d orders, %d whole, %d bytes arrived", kind, ORDERS, whole, arrived)
