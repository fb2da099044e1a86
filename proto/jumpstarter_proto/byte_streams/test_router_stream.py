"""A byte stream in frames, over a real call, and against frames that a peer may send."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.byte_streams.router_stream import FRAME_BYTES, TUNNEL_FRAME_BYTES, RouterStream
from jumpstarter_proto.rpc import (
    Options,
    RpcError,
    SendBuffer,
    ServerCall,
    StatusCode,
    open_channel,
    serve_connection,
)
from jumpstarter_proto.rpc.conftest import UNARY, Bytes, Echo
from jumpstarter_proto.v1 import router_pb2
from jumpstarter_proto.v1.router_grpc import RouterServiceServicer, RouterServiceStub

Handler = Callable[[RouterStream], Awaitable[None]]


class Service(RouterServiceServicer):
    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    async def Stream(  # noqa: N802 - the name on the wire
        self, call: ServerCall[router_pb2.StreamRequest, router_pb2.StreamResponse]
    ) -> None:
        await call.send_initial_metadata()
        await self.handler(RouterStream.server(call))


@asynccontextmanager
async def connected(handler: Handler) -> AsyncIterator[tuple[RouterStream, Any]]:
    ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_connection, theirs, [Service(handler)])
        async with open_channel(ours) as channel, RouterServiceStub(channel).Stream() as call:
            yield RouterStream.client(call), call
        nursery.cancel_scope.cancel()


async def echo(stream: RouterStream) -> None:
    while data := await stream.receive_some():
        await stream.send_all(data)
    await stream.send_eof()


async def read_all(stream: RouterStream) -> bytes:
    data = b""
    while chunk := await stream.receive_some():
        data += chunk
    return data


async def serve_echo(stream: RouterStream) -> None:
    await serve_connection(stream, [Echo()])


async def test_a_connection_inside_of_a_stream_carries_calls_of_any_size_at_once() -> None:
    async with (
        connected(serve_echo) as (stream, _),
        open_channel(stream) as channel,
        trio.open_nursery() as nursery,
    ):

        async def ask(size: int) -> None:
            for _ in range(5):
                reply = await channel.unary(UNARY, Bytes(value=bytes(size)))
                assert len(reply.value) == size

        for size in (0, 1, FRAME_BYTES, TUNNEL_FRAME_BYTES, TUNNEL_FRAME_BYTES + 1, 3 * 1024 * 1024):
            nursery.start_soon(ask, size)


async def test_a_wire_in_a_stream_sends_large_frames_as_far_as_the_window_goes() -> None:
    data = bytes(range(256)) * 16 * 1024
    frames: list[bytes] = []
    go_on, done = trio.Event(), trio.Event()

    async def read_late(stream: RouterStream) -> None:
        await go_on.wait()
        while chunk := await stream.receive_some():
            frames.append(chunk)
        done.set()

    async with connected(read_late) as (stream, _):
        wire, send_buffer = stream.byte_transport(), SendBuffer()
        send_buffer.append(data)
        await trio.testing.wait_all_tasks_blocked()  # the peer's window is known
        wire.write_now(send_buffer)
        sent = len(data) - send_buffer.size
        assert TUNNEL_FRAME_BYTES <= sent <= Options().stream_window
        wire.write_now(send_buffer)
        assert len(data) - send_buffer.size == sent, "what waited for the socket was passed by"
        go_on.set()
        while send_buffer.size:
            await wire.write(send_buffer)
        wire.write_now(send_buffer)
        await stream.send_eof()
        await done.wait()
    assert b"".join(frames) == data
    assert max(map(len, frames)) == TUNNEL_FRAME_BYTES


async def test_a_wire_leaves_a_closed_stream_alone() -> None:
    async with connected(echo) as (stream, _):
        await stream.send_all(b"before")
        await stream.aclose()
        send_buffer = SendBuffer()
        send_buffer.append(b"after")
        stream.byte_transport().write_now(send_buffer)
        assert send_buffer.size == 5
        with pytest.raises(trio.ClosedResourceError):
            await stream.byte_transport().write(send_buffer)


async def test_echo_and_both_ends() -> None:
    async with connected(echo) as (stream, _):
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
        assert not stream.ended
        await stream.send_eof()
        assert await stream.receive_some() == b""
        assert await stream.receive_some() == b""
        assert stream.ended


async def test_large_data_goes_in_frames_and_arrives_whole() -> None:
    data = bytes(range(256)) * 2000
    frames: list[int] = []

    async def measure(stream: RouterStream) -> None:
        while chunk := await stream.receive_some():
            frames.append(len(chunk))
        await stream.send_all(memoryview(data))
        await stream.send_eof()

    async with connected(measure) as (stream, _):
        await stream.send_all(data)
        await stream.send_eof()
        assert await read_all(stream) == data
    assert frames == [FRAME_BYTES] * (len(data) // FRAME_BYTES) + [len(data) % FRAME_BYTES]


async def test_a_part_of_a_frame_leaves_the_rest() -> None:
    async with connected(echo) as (stream, _):
        await stream.send_all(b"abcdef")
        assert [await stream.receive_some(4), await stream.receive_some(4)] == [b"abcd", b"ef"]
        with pytest.raises(ValueError, match="at least 1"):
            await stream.receive_some(0)


async def test_grpcs_own_half_close_is_an_end_too() -> None:
    async with connected(echo) as (stream, call):
        await call.send_eof()
        assert await stream.receive_some() == b""


async def test_a_call_that_fails_is_a_cut_with_its_cause() -> None:
    async def fail(stream: RouterStream) -> None:
        await stream.send_all(b"the beginning")
        raise RpcError(StatusCode.ABORTED, "the cable came out")

    async with connected(fail) as (stream, _):
        with pytest.raises(trio.BrokenResourceError, match="the cable came out") as caught:
            await read_all(stream)
        assert isinstance(caught.value.__cause__, RpcError)


async def test_an_end_that_was_said_counts_whatever_the_call_ends_with() -> None:
    async def finish_and_fail(stream: RouterStream) -> None:
        await stream.send_all(b"all of it")
        await stream.send_eof()
        raise RpcError(StatusCode.ABORTED, "RouterStream: aclose")

    async with connected(finish_and_fail) as (stream, _):
        assert await read_all(stream) == b"all of it"


async def test_sending_into_a_call_that_ended_breaks() -> None:
    async def leave(_: RouterStream) -> None:
        raise RpcError(StatusCode.UNAVAILABLE, "gone")

    async def flood(stream: RouterStream) -> None:
        while True:
            await stream.send_all(bytes(FRAME_BYTES))

    async with connected(leave) as (stream, _):
        with pytest.raises(trio.BrokenResourceError):
            await flood(stream)


async def test_after_the_end_nothing_can_be_sent() -> None:
    async with connected(echo) as (stream, _):
        await stream.send_eof()
        await stream.send_eof()
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(b"x")
        await stream.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_eof()


async def test_two_tasks_may_not_receive_at_a_time() -> None:
    async with connected(echo) as (stream, _), trio.open_nursery() as nursery:
        nursery.start_soon(stream.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await stream.receive_some()
        await stream.send_all(b"x")


DATA = st.binary(max_size=20).map(lambda payload: router_pb2.StreamResponse(payload=payload))
OTHER = st.sampled_from([3, 6, 99]).map(
    lambda kind: router_pb2.StreamResponse(payload=b"ignored", frame_type=kind)  # type: ignore[arg-type]
)


class Frames:
    """A peer that sends these and ends."""

    def has_succeeded(self) -> bool:
        return True

    def __init__(self, frames: list[router_pb2.StreamResponse], *, goaway: bool) -> None:
        self.frames = frames
        if goaway:
            end = router_pb2.StreamResponse(frame_type=router_pb2.FRAME_TYPE_GOAWAY)
            self.frames = [*frames, end, router_pb2.StreamResponse(payload=b"after the end")]

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self.frames:
            raise trio.EndOfChannel
        return self.frames.pop(0).SerializeToString()

    async def send(self, frame: bytes) -> None: ...
    async def send_eof(self) -> None: ...
    async def send_last(self) -> None: ...
    def allowance(self) -> int:
        return 0

    def send_now(self, frame: bytes) -> None: ...
    async def wait_failed(self) -> RpcError:
        raise NotImplementedError


@given(st.lists(DATA | OTHER), st.booleans(), st.none() | st.integers(1, 30))
def test_only_an_end_is_an_end(
    frames: list[router_pb2.StreamResponse], goaway: bool, max_bytes: int | None
) -> None:
    expected = b"".join(frame.payload for frame in frames if frame.frame_type == 0)

    async def read() -> bytes:
        stream = RouterStream(Frames(list(frames), goaway=goaway))
        data = b""
        while chunk := await stream.receive_some(max_bytes):
            assert max_bytes is None or len(chunk) <= max_bytes
            data += chunk
        return data

    assert trio.run(read) == expected


class NarrowFrames:
    """A call whose window is full until `room` is set."""

    def __init__(self) -> None:
        self.room = trio.Event()
        self.sent: list[int | str] = []

    def has_succeeded(self) -> bool:
        return False

    async def receive(self) -> bytes:
        return router_pb2.StreamRequest(frame_type=router_pb2.FRAME_TYPE_GOAWAY).SerializeToString()

    async def send(self, frame: bytes, /) -> None:
        await self.room.wait()
        self.sent.append(router_pb2.StreamRequest.FromString(frame).frame_type)

    def allowance(self) -> int:
        return 0 if not self.room.is_set() else FRAME_BYTES

    def send_now(self, frame: bytes, /) -> None:
        self.sent.append("now")

    async def wait_failed(self) -> RpcError:
        raise NotImplementedError

    async def send_eof(self) -> None:
        await self.send(router_pb2.StreamRequest(frame_type=router_pb2.FRAME_TYPE_GOAWAY).SerializeToString())

    async def send_last(self) -> None:
        self.sent.append("last")


@pytest.mark.parametrize("data", [b"more", b""])
async def test_who_sends_while_a_confirmation_waits_for_room_waits_behind_it(data: bytes) -> None:
    frames = NarrowFrames()
    stream = RouterStream(frames, confirms=True)

    async def send() -> None:
        if data:
            await stream.send_all(data)
        await stream.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.confirm)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        frames.room.set()
    kinds = [router_pb2.FRAME_TYPE_DATA] if data else []
    assert frames.sent == [router_pb2.FRAME_TYPE_PING, *kinds, router_pb2.FRAME_TYPE_GOAWAY, "last"]
