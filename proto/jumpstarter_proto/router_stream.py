"""A byte stream inside a `RouterService/Stream` call, for either end of it.

A frame's payload is a piece of the stream, and a piece that fits into a frame stays whole, so datagrams can
travel too. Each direction ends with a GOAWAY frame; gRPC's own half-close means the same, but only a client
can send that. A call that fails before the end of the data is a cut, and never looks like an end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

import trio

from jumpstarter_proto.router_frames import HEAD, pack, unpack
from jumpstarter_proto.rpc import ClientCall, Outbox, RpcError, ServerCall, Wire
from jumpstarter_proto.v1 import router_pb2

__all__ = ["FRAME", "RouterStream"]

FRAME = 65536
"""Most bytes of one frame that we send."""
TUNNEL_FRAME = 2 * FRAME - 1024
"""The same in a stream that carries a connection: a frame of a stream in it stays one frame, heads and all."""
_GOAWAY = router_pb2.StreamRequest(frame_type=router_pb2.FRAME_TYPE_GOAWAY).SerializeToString()

_Call: TypeAlias = (
    "ClientCall[router_pb2.StreamRequest, router_pb2.StreamResponse]"
    " | ServerCall[router_pb2.StreamRequest, router_pb2.StreamResponse]"
)


class _Frames(Protocol):
    """Frames of one call, both ways."""

    def receive(self) -> Awaitable[bytes]:
        """The peer's next frame. Raises trio.EndOfChannel after the last, RpcError for a call that failed."""

    def send(self, frame: bytes, /) -> Awaitable[None]:
        """Send a frame."""

    def allowance(self) -> int:
        """What a frame may have to be sent without waiting."""

    def send_now(self, frame: bytes, /) -> None:
        """Send a frame within the allowance."""

    async def send_eof(self) -> None:
        """Say that there will be no more data."""


class _ServerFrames:
    """The frames of a call."""

    def __init__(self, call: _Call) -> None:
        self.receive = call.receive_data
        self.send = call.send_data
        self.allowance = call.allowance
        self.send_now = call.send_now

    async def send_eof(self) -> None:
        await self.send(_GOAWAY)


class _ClientFrames(_ServerFrames):
    """The frames of a call that we make, whose end gRPC knows, too."""

    def __init__(self, call: ClientCall[router_pb2.StreamRequest, router_pb2.StreamResponse]) -> None:
        super().__init__(call)
        self._half_close = call.send_eof

    async def send_eof(self) -> None:
        await super().send_eof()
        await self._half_close()


class RouterStream(trio.abc.HalfCloseableStream):
    """`RouterStream.client(call)` or `RouterStream.server(call)`.

    The call stays its owner's: `aclose` only ends this object; leaving the
    call's block (a client) or returning from the handler (a server) ends the call. One task may receive while
    another sends.
    """

    def __init__(self, frames: _Frames) -> None:
        self._frames = frames
        self._rest = b""
        self._received_eof = False
        self._sent_eof = False
        self._closed = False
        self._send_conflicts = _Conflict("another task is sending on this stream")
        self._receive_conflicts = _Conflict("another task is receiving on this stream")

    @classmethod
    def client(cls, call: ClientCall[router_pb2.StreamRequest, router_pb2.StreamResponse]) -> RouterStream:
        """Our end of a call that we make."""
        return cls(_ClientFrames(call))

    @classmethod
    def server(cls, call: ServerCall[router_pb2.StreamRequest, router_pb2.StreamResponse]) -> RouterStream:
        """Our end of a call that we serve."""
        return cls(_ServerFrames(call))

    @property
    def ended(self) -> bool:
        """Whether both directions have come to their end in good order."""
        return self._received_eof and self._sent_eof

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next data; b"" at its end. Without `max_bytes` a frame stays whole.

        Raises:
            trio.BrokenResourceError: the call ended before the peer said that its data had ended.
        """
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")
        if max_bytes is not None and max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        with self._receive_conflicts:
            while not self._rest:
                if self._received_eof:
                    await trio.lowlevel.checkpoint()
                    return b""
                # Empty frames are legal and mean nothing; so do PING, RST_STREAM and what we do not know.
                await self._receive_frame()
        if max_bytes is None or len(self._rest) <= max_bytes:
            data, self._rest = self._rest, b""
        else:
            data, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return data

    async def _receive_frame(self) -> None:
        try:
            kind, payload = unpack(await self._frames.receive())
        except trio.EndOfChannel:
            self._received_eof = True
            return
        except RpcError as error:
            raise trio.BrokenResourceError(str(error)) from error
        if kind == router_pb2.FRAME_TYPE_DATA:
            self._rest = payload
        elif kind == router_pb2.FRAME_TYPE_GOAWAY:
            self._received_eof = True

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send data of any size; up to `FRAME` bytes arrive as one piece.

        Raises:
            trio.BrokenResourceError: the call has ended.
            trio.ClosedResourceError: `send_eof` or `aclose` came before.
        """
        await self._send_all(data, FRAME)

    async def _send_all(self, data: bytes | bytearray | memoryview, most: int) -> None:
        if self._closed or self._sent_eof:
            raise trio.ClosedResourceError("this stream was closed for sending")
        with self._send_conflicts:
            try:
                if len(data) <= most:
                    await self._frames.send(pack(data))
                    return
                view = memoryview(data)
                for start in range(0, len(data), most):
                    await self._frames.send(pack(view[start : start + most]))
            except RpcError as error:
                raise trio.BrokenResourceError(str(error)) from error

    def _send_now(self, outbox: Outbox) -> None:
        """Frames of a connection's bytes, as long as nothing has to wait."""
        if self._closed or self._sent_eof or self._send_conflicts.is_held:
            return  # `_send_all` says what is wrong, or is at it
        while size := min(outbox.size, TUNNEL_FRAME):
            if self._frames.allowance() < size + HEAD:
                return
            self._frames.send_now(pack(outbox.take(size)))

    async def wait_send_all_might_not_block(self) -> None:
        """Frames wait in `send_all` itself."""
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        """Say that no more data comes from here; what the peer sends still arrives."""
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")
        if self._sent_eof:
            await trio.lowlevel.checkpoint()
            return
        with self._send_conflicts:
            self._sent_eof = True
            try:
                await self._frames.send_eof()
            except RpcError as error:
                raise trio.BrokenResourceError(str(error)) from error

    def wire(self) -> Wire:
        """For a connection that has this stream for itself (see `jumpstarter_proto.rpc.Wire`)."""
        return _TunnelWire(self._send_now, self._send_all, self.receive_some)

    async def aclose(self) -> None:
        """Let go of the call, without a word to the peer: its owner ends it, in order or not."""
        self._closed = True
        await trio.lowlevel.checkpoint()


class _TunnelWire:
    """A connection inside of a call: what fits into the call's window goes out at once, in large frames."""

    pending = 0
    is_whole = False

    def __init__(
        self,
        send_now: Callable[[Outbox], None],
        send_all: Callable[[bytes, int], Awaitable[None]],
        receive: Callable[[], Awaitable[bytes]],
    ) -> None:
        self.write_now = send_now
        self.receive = receive
        self._send_all = send_all

    def read_at_most(self, size: int) -> None:
        """A frame at a time, as before."""

    async def write(self, outbox: Outbox) -> None:
        await self._send_all(outbox.take(TUNNEL_FRAME), TUNNEL_FRAME)


class _Conflict:
    """At most one task at a time."""

    def __init__(self, message: str) -> None:
        self._message = message
        self.is_held = False

    def __enter__(self) -> None:
        if self.is_held:
            raise trio.BusyResourceError(self._message)
        self.is_held = True

    def __exit__(self, *_: object) -> None:
        self.is_held = False
