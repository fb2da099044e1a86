from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

from jumpstarter_proto.rpc import Options
from jumpstarter_proto.rpc._events import GoingAway, RequestReceived
from jumpstarter_proto.rpc._mux import CLOSING_GRACE_SECONDS, HIGH_WATER_BYTES, Mux


class Nobody:
    """An owner that has nothing to do."""

    def on_request(self, event: RequestReceived) -> None:
        raise AssertionError

    def on_going_away(self, event: GoingAway) -> None:
        raise AssertionError

    def on_end(self) -> None:
        pass


async def test_sender_that_waits_is_woken_by_whoever_empties_the_outbox() -> None:
    """The reader, say, before the writer has its turn; here there is no writer at all."""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.setblocking(False)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        mux = Mux(stream, Nobody(), client=True, options=Options())
        mux._send_buffer.append(bytes(8 * HIGH_WATER_BYTES))
        drained = trio.Event()

        async def drain() -> None:
            await mux.drain()
            drained.set()

        async with trio.open_nursery() as nursery, stream:
            nursery.start_soon(drain)
            await trio.testing.wait_all_tasks_blocked()
            assert not drained.is_set()
            while mux._send_buffer.size:
                theirs.recv(HIGH_WATER_BYTES)
                mux.flush()
            with trio.fail_after(10):
                await drained.wait()


class _Ends:
    """A mux over a socket, whose peer has read nothing of what is queued."""

    def __init__(self, queued: int) -> None:
        ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        self.mux = Mux(stream, Nobody(), client=True, options=Options())
        self.mux._send_buffer.append(bytes(queued))


@pytest.mark.parametrize("who", ["writer", "reader"])
async def test_sender_that_waits_is_not_woken_before_there_is_room(who: str) -> None:
    ends = _Ends(8 * HIGH_WATER_BYTES)
    mux = ends.mux
    woken: list[int] = []

    async def wait() -> None:
        await mux._written.park()
        woken.append(mux._send_buffer.size)

    with ends.theirs:
        async with trio.open_nursery() as nursery, mux.stream:
            nursery.start_soon(wait)
            if who == "writer":
                nursery.start_soon(mux._write)
            else:
                mux.flush()
            await trio.testing.wait_all_tasks_blocked()
            while not woken:
                ends.theirs.recv(HIGH_WATER_BYTES)
                if who == "reader":
                    mux.flush()
                await trio.testing.wait_all_tasks_blocked()
            mux.lose("the test is over")
            nursery.cancel_scope.cancel()
    assert 0 < woken[0] < HIGH_WATER_BYTES


async def test_what_is_queued_is_sent_also_when_the_connection_is_cancelled() -> None:
    ends = _Ends(2 * HIGH_WATER_BYTES)
    received = 0
    with ends.theirs:
        async with trio.open_nursery() as nursery:
            await nursery.start(ends.mux.run)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                peer = trio.SocketStream(trio.socket.from_stdlib_socket(ends.theirs))
                while data := await peer.receive_some():
                    received += len(data)
    assert received > 2 * HIGH_WATER_BYTES


async def test_a_peer_that_does_not_read_delays_the_end_by_a_second(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ends = _Ends(8 * HIGH_WATER_BYTES)
    with ends.theirs:
        async with trio.open_nursery() as nursery:
            await nursery.start(ends.mux.run)
            ends.mux.close("the test is over")
            with trio.move_on_after(60):
                await ends.mux.closed.wait()
            took = trio.current_time()
            ends.theirs.close()
    assert took == pytest.approx(CLOSING_GRACE_SECONDS, abs=0.1)
