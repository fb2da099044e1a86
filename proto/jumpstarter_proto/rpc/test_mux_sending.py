"""How much of what calls send is queued, in which frames, and who else gets a turn meanwhile."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from jumpstarter_proto.rpc import Options
from jumpstarter_proto.rpc._connection import GrpcConnection
from jumpstarter_proto.rpc._mux import HIGH_WATER_BYTES, MAX_FRAME_BYTES, CallState, Mux
from jumpstarter_proto.rpc.conftest import STREAM
from jumpstarter_proto.rpc.test_mux import Nobody

PREFACE_LENGTH = 24
FRAME_HEADER = 9
DATA = 0


class Sender:
    """A call, and a peer whose windows are wide and who reads when it is told to."""

    def __init__(self, mux: Mux, theirs: socket.socket) -> None:
        self.mux = mux
        self._theirs = theirs
        number = mux.connection.start_call(
            STREAM.path, scheme="http", authority="x", timeout=None, metadata=()
        )
        self.call = mux.calls[number] = CallState(number)

    async def data_sizes(self) -> list[int]:
        """Read until nothing more comes; return the size of each DATA frame."""
        data = b""
        while True:
            try:
                data += self._theirs.recv(1 << 20)
            except BlockingIOError:
                break
            await trio.testing.wait_all_tasks_blocked()
        sizes, position = [], PREFACE_LENGTH
        while position < len(data):
            size = int.from_bytes(data[position : position + 3], "big")
            if data[position + 3] == DATA:
                sizes.append(size)
            position += FRAME_HEADER + size
        return sizes


@asynccontextmanager
async def open_sender(window: int = 8 << 20) -> AsyncIterator[Sender]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    mux = Mux(
        trio.SocketStream(trio.socket.from_stdlib_socket(ours)), Nobody(), client=True, options=Options()
    )
    peer = GrpcConnection(client=False, options=Options(stream_window=window))
    peer.start()
    with theirs:
        async with trio.open_nursery() as nursery:
            await nursery.start(mux.run)
            theirs.send(peer.take())
            await trio.testing.wait_all_tasks_blocked()
            yield Sender(mux, theirs)
            nursery.cancel_scope.cancel()
            theirs.close()


async def test_a_large_message_goes_in_frames_of_which_each_is_small() -> None:
    async with open_sender() as sender, trio.open_nursery() as nursery:
        nursery.start_soon(sender.mux.send, sender.call, bytes(MAX_FRAME_BYTES * 5 // 2))
        await trio.testing.wait_all_tasks_blocked()
        sizes = await sender.data_sizes()
    assert sum(sizes) == MAX_FRAME_BYTES * 5 // 2 + 5
    assert max(sizes) <= MAX_FRAME_BYTES


async def test_a_sender_of_small_messages_stops_when_the_peer_does_not_read() -> None:
    async with open_sender() as sender, trio.open_nursery() as nursery:

        async def send() -> None:
            while True:
                await sender.mux.send(sender.call, bytes(50_000))

        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        assert HIGH_WATER_BYTES < sender.mux._send_buffer.size < HIGH_WATER_BYTES + 60_000
        nursery.cancel_scope.cancel()


async def test_who_sends_what_goes_without_waiting_stops_when_the_peer_does_not_read() -> None:
    async with open_sender() as sender:
        while sender.mux.allowance(sender.call) >= 50_000:
            sender.mux.send_now(sender.call, bytes(50_000))
        assert HIGH_WATER_BYTES < sender.mux._send_buffer.size < HIGH_WATER_BYTES + 60_000


async def test_a_sender_of_a_large_message_stops_when_the_peer_does_not_read() -> None:
    async with open_sender() as sender, trio.open_nursery() as nursery:
        nursery.start_soon(sender.mux.send, sender.call, bytes(4 << 20))
        await trio.testing.wait_all_tasks_blocked()
        assert (
            HIGH_WATER_BYTES
            < sender.mux._send_buffer.size
            <= HIGH_WATER_BYTES + MAX_FRAME_BYTES + FRAME_HEADER
        )
        nursery.cancel_scope.cancel()


async def test_a_message_that_was_begun_and_cannot_be_finished_resets_its_call() -> None:
    async with open_sender() as sender, trio.open_nursery() as nursery:
        nursery.start_soon(sender.mux.send, sender.call, bytes(4 << 20))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert sender.call.is_over
    assert not sender.mux.connection.is_open(sender.call.stream_id)


async def test_a_message_that_was_not_begun_costs_its_call_nothing_when_its_sender_is_cancelled() -> None:
    async with open_sender() as sender, trio.open_nursery() as nursery:
        while sender.mux.allowance(sender.call) >= 50_000:
            sender.mux.send_now(sender.call, bytes(50_000))
        with trio.CancelScope() as scope:
            nursery.start_soon(trio.testing.wait_all_tasks_blocked)
            scope.cancel()
            await sender.mux.send(sender.call, bytes(70_000))
        assert scope.cancelled_caught
        assert not sender.call.is_over
        before = sum(await sender.data_sizes())
        await sender.mux.send(sender.call, b"the next")
        await trio.testing.wait_all_tasks_blocked()
    assert before > 0
    assert sender.mux.connection.is_open(sender.call.stream_id) or sender.mux.lost is not None


async def test_who_waits_for_the_peers_window_is_forgotten_afterwards() -> None:
    async with open_sender(window=65_535) as sender, trio.open_nursery() as nursery:
        nursery.start_soon(sender.mux.send, sender.call, bytes(100_000))
        await trio.testing.wait_all_tasks_blocked()
        assert set(sender.mux._waiting_for_window) == {sender.call}
        nursery.cancel_scope.cancel()
    assert not sender.mux._waiting_for_window


async def test_others_get_their_turn_while_messages_are_sent_that_never_wait() -> None:
    sent = 0
    sent_at_turn: list[int] = []

    async def other() -> None:
        sent_at_turn.append(sent)

    async with open_sender() as sender, trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(1000):
            await sender.mux.send(sender.call, b"")
            sent += 1
    assert sent_at_turn[0] < 1000
