"""TLS streams by themselves; the calls of the other tests run over them, too."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.rpc._send_buffer import SendBuffer
from jumpstarter_proto.rpc._tls import MAX_PIECE_BYTES, TlsStream
from jumpstarter_proto.rpc.conftest import tls_pair

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
Ends = tuple[TlsStream, TlsStream]


@pytest.fixture
async def ends(contexts: Contexts) -> AsyncIterator[Ends]:
    pair = await tls_pair(contexts)
    yield pair
    for end in pair:
        await end.aclose()


async def receive_exactly(stream: TlsStream, size: int, most: int | None) -> bytes:
    received = bytearray()
    while len(received) < size:
        data = await stream.receive_some(most)
        assert data
        assert most is None or len(data) <= most
        received += data
    return bytes(received)


@pytest.mark.parametrize("most", [None, 1000, 70_000])
@pytest.mark.parametrize("size", [1, 16 * 1024, MAX_PIECE_BYTES, 3 * 1024 * 1024 + 7])
async def test_bytes_arrive_as_they_were_sent_both_ways(ends: Ends, size: int, most: int | None) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    data = data[:size]
    received = {}

    async def receive(stream: TlsStream) -> None:
        received[stream] = await receive_exactly(stream, size, most)

    async with trio.open_nursery() as nursery:
        for end in ends:
            nursery.start_soon(end.send_all, data)
            nursery.start_soon(receive, end)
    assert [received[end] == data for end in ends] == [True, True]


async def test_a_peer_that_reads_nothing_stops_the_writer_with_one_piece_at_most_encrypted(
    ends: Ends,
) -> None:
    ours, theirs = ends
    send_buffer = SendBuffer()
    data = bytes(8 * 1024 * 1024)
    send_buffer.append(data)
    ours.write_now(send_buffer)
    assert 0 < ours.pending <= MAX_PIECE_BYTES + 1024
    assert send_buffer.size > len(data) // 2
    # A write that is cancelled while it waits has lost nothing and sent nothing twice.
    with trio.move_on_after(0.01) as scope:
        await ours.write(send_buffer)
    assert scope.cancelled_caught

    async def write() -> None:
        while send_buffer.size or ours.pending:
            await ours.write(send_buffer)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        assert await receive_exactly(theirs, len(data), None) == data


async def test_what_was_tampered_with_is_a_broken_stream(ends: Ends) -> None:
    ours, theirs = ends
    await ours.send_all(b"good")
    await ours.transport_stream.send_all(b"\x17\x03\x03\x00\x14" + bytes(20))
    assert await theirs.receive_some() == b"good"
    with pytest.raises(trio.BrokenResourceError):
        await theirs.receive_some()


async def test_an_end_is_an_end_with_and_without_tls_saying_so(contexts: Contexts) -> None:
    for polite in (True, False):
        ours, theirs = await tls_pair(contexts)
        await ours.send_all(b"last words")
        if polite:
            with pytest.raises(ssl.SSLWantReadError):
                ours._tls.unwrap()
            await ours.send_all(b"")
        await ours.aclose()
        assert await receive_exactly(theirs, 10, None) == b"last words"
        for _ in range(2):
            assert await theirs.receive_some() == b""
        await theirs.aclose()


@given(
    st.lists(st.one_of(st.binary(max_size=40), st.integers(0, 30_000).map(bytes)), max_size=12),
    st.lists(st.integers(1, 70_000), min_size=1, max_size=20),
)
def test_an_outbox_gives_the_same_bytes_in_any_portions(pieces: list[bytes], portions: list[int]) -> None:
    send_buffer = SendBuffer()
    taken = b""
    for index, piece in enumerate(pieces):
        send_buffer.append(piece)
        if index % 3 == 2:
            taken += send_buffer.take(portions[index % len(portions)])
    for portion in portions:
        before = send_buffer.size
        data = send_buffer.take(portion)
        assert len(data) == min(before, portion)
        assert send_buffer.size == before - len(data)
        taken += data
    taken += send_buffer.take()
    assert taken == b"".join(pieces)
    assert send_buffer.size == 0


async def test_what_is_closed_says_so_to_who_reads_or_writes(ends: Ends) -> None:
    near, _ = ends
    unsent = SendBuffer()
    unsent.append(b"last words")
    near.transport_stream.socket.close()  # before it could say anything
    for use in (lambda: near.write(unsent), near.receive_some):
        with pytest.raises(trio.ClosedResourceError):
            await use()
