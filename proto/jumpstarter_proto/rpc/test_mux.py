from __future__ import annotations

import socket

import trio
import trio.testing

from jumpstarter_proto.rpc import Options
from jumpstarter_proto.rpc._events import GoingAway, RequestReceived
from jumpstarter_proto.rpc._mux import HIGH_WATER, Mux


class Nobody:
    """An owner that has nothing to do."""

    def on_request(self, event: RequestReceived) -> None:
        raise AssertionError

    def on_going_away(self, event: GoingAway) -> None:
        raise AssertionError


async def test_sender_that_waits_is_woken_by_whoever_empties_the_outbox() -> None:
    """The reader, say, before the writer has its turn; here there is no writer at all."""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.setblocking(False)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        mux = Mux(stream, Nobody(), client=True, options=Options())
        mux._outbox.append(bytes(8 * HIGH_WATER))
        drained = trio.Event()

        async def drain() -> None:
            await mux.drain()
            drained.set()

        async with trio.open_nursery() as nursery, stream:
            nursery.start_soon(drain)
            await trio.testing.wait_all_tasks_blocked()
            assert not drained.is_set()
            while mux._outbox.size:
                theirs.recv(HIGH_WATER)
                mux.flush()
            with trio.fail_after(10):
                await drained.wait()
