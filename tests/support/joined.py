"""Two programs connected by joined byte streams, and the rules that their bytes must follow."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import trio
from jumpstarter_proto.byte_streams.join import BrokenJoinError, abort, closing, join
from jumpstarter_proto.byte_streams.router_stream import CONFIRM, RouterStream
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode, open_channel, serve_connection
from jumpstarter_proto.v1 import router_pb2
from jumpstarter_proto.v1.router_grpc import RouterServiceServicer, RouterServiceStub

__all__ = ["ROOM", "Half", "Program", "Wire", "joined_over", "play", "tcp", "wire"]

ROOM = 1000
"""Bytes that wait in one direction of a `Wire` before its sender waits."""


class Half:
    """One direction of a connection between two programs: bounded, with an end of data and with a reset."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.taken = 0
        self.sent = 0
        self.has_ended = False
        self.is_broken = False
        self.changed = trio.lowlevel.ParkingLot()

    def change(self) -> None:
        self.changed.unpark_all()


class Wire(trio.abc.HalfCloseableStream):
    """An end of a connection in memory that behaves as TCP does, which trio's memory streams do not."""

    def __init__(self, inward: Half, outward: Half) -> None:
        self._in, self._out = inward, outward
        self._is_aborted = False
        self._is_closed = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        while not self._in.data:
            if self._in.is_broken:
                raise trio.BrokenResourceError("reset by the peer")
            if self._in.has_ended:
                return b""
            if self._is_closed:
                raise trio.ClosedResourceError
            await self._in.changed.park()
        size = min(max_bytes or 400, len(self._in.data))
        data = bytes(self._in.data[:size])
        del self._in.data[:size]
        self._in.taken += size
        self._in.change()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        rest = bytes(data)
        while rest:
            if self._out.is_broken or self._is_closed:
                raise trio.BrokenResourceError("reset by the peer")
            room = ROOM - len(self._out.data)
            if not room:
                await self._out.changed.park()
                continue
            self._out.data += rest[:room]
            self._out.sent += len(rest[:room])
            rest = rest[room:]
            self._out.change()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._out.is_broken:
            raise trio.BrokenResourceError("reset by the peer")
        self._out.has_ended = True
        self._out.change()

    async def finish(self, *, discard: bool = False) -> None:
        while self._out.data and not self._out.is_broken:
            await self._out.changed.park()
        await trio.lowlevel.checkpoint()
        if self._out.is_broken:
            raise trio.BrokenResourceError("reset by the peer")

    def abort(self) -> None:
        self._is_aborted = True

    async def aclose(self) -> None:
        """What was sent still arrives; then an end, or, when it was aborted or not all was read, a reset."""
        if not self._is_closed:
            self._is_closed = True
            is_reset = self._is_aborted or bool(self._in.data)
            if self._in.data or not self._in.has_ended:
                self._in.is_broken = True
            if is_reset and not self._out.has_ended:
                self._out.is_broken = True
            self._out.has_ended = True
            self._in.change()
            self._out.change()
        await trio.lowlevel.checkpoint()


def wire() -> tuple[Wire, Wire]:
    there, back = Half(), Half()
    return Wire(back, there), Wire(there, back)


Pair: TypeAlias = "tuple[trio.abc.Stream, trio.abc.Stream]"


class Service(RouterServiceServicer):
    """Joins the one call with a stream, as an exporter does."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.stream = stream
        self.has_begun = False

    async def Stream(  # noqa: N802 - the name on the wire
        self, call: ServerCall[router_pb2.StreamRequest, router_pb2.StreamResponse]
    ) -> None:
        self.has_begun = True
        confirms = call.header(CONFIRM[0]) == CONFIRM[1]
        try:
            async with closing(self.stream):
                await call.send_initial_metadata([CONFIRM] if confirms else [])
                call.outlive_reset(5)
                await join(RouterStream.server(call, confirms=confirms), self.stream)
        except BrokenJoinError as error:
            raise RpcError(StatusCode.ABORTED, str(error)) from error


@asynccontextmanager
async def joined_over(
    carrier: Pair, near: trio.abc.HalfCloseableStream, far: trio.abc.HalfCloseableStream
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """near - join - a call over the carrier - join - far. What it gives joins near's side, until its end."""
    async with trio.open_nursery() as nursery:
        service = Service(far)
        nursery.start_soon(serve_connection, carrier[1], [service])
        async with open_channel(carrier[0]) as channel:

            async def forward() -> None:
                try:
                    async with closing(near), RouterServiceStub(channel).Stream(metadata=[CONFIRM]) as call:
                        confirms = CONFIRM in await call.initial_metadata()
                        await join(near, RouterStream.client(call, confirms=confirms))
                finally:
                    if not service.has_begun:
                        abort(far)
                        await trio.aclose_forcefully(far)

            yield forward
        nursery.cancel_scope.cancel()


@dataclass
class Program:
    """What one of the two programs does: sends its pieces, and ends, closes or breaks off at some time."""

    pieces: list[int]
    """Bytes of each."""
    pauses: list[float]
    """Seconds before each piece that it sends, and between each that it reads."""
    end: str
    """half-close, close (after the peer's end), reset (after its pieces)"""
    reads: bool = True
    stream: trio.abc.HalfCloseableStream = field(init=False)
    got: bytearray = field(default_factory=bytearray)
    heard: str = "nothing"
    """end or error."""
    accepted: int = 0
    was_refused: bool = False
    has_ended: bool = False
    over: trio.Event = field(default_factory=trio.Event)

    def data(self) -> bytes:
        return random.Random(len(self.pieces)).randbytes(sum(self.pieces))

    def pause(self, index: int) -> float:
        return self.pauses[index % len(self.pauses)] if self.pauses else 0

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.write, nursery.cancel_scope)
            if self.reads:
                await self.read()
        await self.stream.aclose()
        self.over.set()

    async def write(self, both: trio.CancelScope) -> None:
        data = memoryview(self.data())
        try:
            for index, size in enumerate(self.pieces):
                await trio.sleep(self.pause(index))
                self.accepted += size  # at most; a piece that breaks may have gone in part
                await self.stream.send_all(data[:size])
                data = data[size:]
            if self.end == "reset":
                abort(self.stream)
                await self.stream.aclose()
                both.cancel()
                return
            await self.stream.send_eof()
            self.has_ended = True
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.was_refused = True

    async def read(self) -> None:
        index = 0
        try:
            while data := await self.stream.receive_some():
                self.got += data
                await trio.sleep(self.pause(index))
                index += 1
            self.heard = "end"
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.heard = "error"


def check(one: Program, other: Program, *, was_left: bool, failed: bool) -> None:
    """Every byte that was accepted arrived in order before the end, or somebody who could hear it got an error."""
    for source, sink in ((one, other), (other, one)):
        data = source.data()
        assert data.startswith(bytes(sink.got)), "out of order"
        # Who was told of a reset while writing is told of an end when reading.
        if sink.heard == "end" and not sink.was_refused:
            assert source.has_ended, "an end that nobody sent"
            assert bytes(sink.got) == data, "an end before all bytes"
    if not was_left and "reset" not in (one.end, other.end):
        assert not failed
        assert (one.heard, other.heard) == ("end", "end")


async def play(
    one: Program, other: Program, join_them: Callable[[], Awaitable[None]], leave_after: float | None
) -> None:
    failed = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        nursery.start_soon(other.run)
        with trio.move_on_after(math.inf if leave_after is None else leave_after) as leaving:
            try:
                await join_them()
            except BrokenJoinError:
                failed = True
    check(one, other, was_left=leaving.cancel_called, failed=failed)


async def tcp() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Two ends of a TCP connection."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        near = await trio.open_tcp_stream(*listener.socket.getsockname())
        far = await listener.accept()
    return near, far
