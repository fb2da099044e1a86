"""Reading a socket in turns."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

from jumpstarter_proto.rpc._byte_transport import (
    LARGE_READ_BYTES,
    TURN_BYTES,
    SocketReader,
    byte_transport_of,
)
from jumpstarter_proto.rpc._send_buffer import SendBuffer

MOST = 65536


async def test_a_flood_arrives_whole_and_others_get_their_turn_meanwhile() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    data = bytes(range(256)) * 64 * 1024
    reader = SocketReader(near.fileno, MOST)
    ticks = 0
    received = bytearray()
    gap = longest = 0

    async def flood() -> None:
        await trio.to_thread.run_sync(lambda: far.sendall(data))

    async def tick() -> None:
        nonlocal ticks
        while True:
            await trio.lowlevel.checkpoint()
            ticks += 1

    with near, far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick)
            nursery.start_soon(flood)
            while len(received) < len(data):
                before = ticks
                piece = await reader.read()
                gap = gap + len(piece) if ticks == before else len(piece)
                longest = max(longest, gap)
                received += piece
            nursery.cancel_scope.cancel()
    assert bytes(received) == data
    # Two turns may meet: one at the end of a round of trio's, one at the beginning of the next.
    assert longest <= 2 * (TURN_BYTES + MOST)


@pytest.mark.parametrize("size", [1, LARGE_READ_BYTES, MOST])
async def test_who_has_read_all_waits_for_more_and_sees_the_end(size: int) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    reader = SocketReader(near.fileno, MOST)
    with near:
        far.sendall(bytes(size))
        assert len(await reader.read()) == size
        async with trio.open_nursery() as nursery:

            async def later() -> None:
                await trio.testing.wait_all_tasks_blocked()
                far.sendall(b"more")
                far.close()

            nursery.start_soon(later)
            assert await reader.read() == b"more"
        assert await reader.read() == b""


async def test_reading_can_be_cancelled_in_the_middle_of_a_flood() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    reader = SocketReader(near.fileno, LARGE_READ_BYTES)
    with near, far, trio.CancelScope() as scope:
        far.sendall(bytes(4 * LARGE_READ_BYTES))
        await reader.read()
        scope.cancel()
        await reader.read()
    assert scope.cancelled_caught


async def test_who_gets_much_reads_on_without_waiting() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    turns: list[str] = []

    async def other() -> None:
        turns.append("other")

    with ours, theirs:
        reader = SocketReader(ours.fileno, LARGE_READ_BYTES)
        theirs.send(bytes(LARGE_READ_BYTES))
        await reader.read()
        # A task that waits comes with the other one, and before it or after it as chance will have it.
        for _ in range(30):
            theirs.send(bytes(LARGE_READ_BYTES))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(other)
                await reader.read()
                turns.append("reader")
    assert turns == ["reader", "other"] * 30


async def test_what_is_closed_says_so_to_who_reads_or_writes() -> None:
    near, far = socket.socketpair()
    with near, far:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(near))
        transport, unsent = byte_transport_of(stream), SendBuffer()
        unsent.append(b"last words")
        await stream.aclose()
        for use in (lambda: transport.write(unsent), transport.receive):
            with pytest.raises(trio.ClosedResourceError):
                await use()
        with pytest.raises(trio.ClosedResourceError):
            transport.write_now(unsent)
