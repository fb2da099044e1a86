"""A byte stream inside a `RouterService/Stream` call, for either end of it.

A frame's payload is a piece of the stream, and a piece that fits into a frame stays whole, so datagrams can
travel too. Each direction ends with a GOAWAY frame; gRPC's own half-close means the same, but only a client
can send that. A call that fails before the end of the data is a cut, and never looks like an end.

After sending the end, a stream does not know whether its peer has received everything: a cancelled call drops the data
that was not read, and clients cancel their calls. So a client asks with a header of its request (`CONFIRM`), and where
the peer answers with the same, each of them sends a PING frame when all that came before the other's GOAWAY has been
taken. Jumpstarter 0.9 knows no such header, and is never sent that frame. gRPC's half-close waits for both.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol, TypeAlias

import trio

from jumpstarter_proto.byte_streams.router_frames import MAX_HEADER_BYTES, pack, unpack
from jumpstarter_proto.rpc import ByteTransport, ClientCall, RpcError, SendBuffer, ServerCall
from jumpstarter_proto.v1 import router_pb2

__all__ = ["CONFIRM", "FRAME_BYTES", "RouterStream"]

FRAME_BYTES = 65536
"""The size limit of a sent frame."""
TUNNEL_FRAME_BYTES = 2 * FRAME_BYTES - 1024
"""The same in a stream that carries a connection: a frame of a stream in it stays one frame, heads and all."""
CONFIRM = ("x_jmp_confirm", "1")
"""The header that asks for confirmations, in the request and in the answer."""
UNCONFIRMED_SECONDS = 10.0
"""The call of a peer that does not confirm the end is cancelled after this time."""
UNCONFIRMED_LEAVE_SECONDS = 0.3
"""The same when a user waits for it."""
_GOAWAY = router_pb2.StreamRequest(frame_type=router_pb2.FRAME_TYPE_GOAWAY).SerializeToString()
_PING = router_pb2.StreamRequest(frame_type=router_pb2.FRAME_TYPE_PING).SerializeToString()

_Call: TypeAlias = (
    "ClientCall[router_pb2.StreamRequest, router_pb2.StreamResponse]"
    " | ServerCall[router_pb2.StreamRequest, router_pb2.StreamResponse]"
)


class _Frames(Protocol):
    """Frames of one call, both ways."""

    def has_succeeded(self) -> bool:
        """Whether the peer has ended the call, and well: then it has taken everything."""

    def receive(self) -> Awaitable[bytes]:
        """The peer's next frame. Raises trio.EndOfChannel after the last, RpcError for a call that failed."""

    def send(self, frame: bytes, /) -> Awaitable[None]:
        """Send a frame."""

    def allowance(self) -> int:
        """What a frame may have to be sent without waiting."""

    def send_now(self, frame: bytes, /) -> None:
        """Send a frame within the allowance."""

    def wait_failed(self) -> Awaitable[RpcError]:
        """Wait until the call fails, when no frame waits to be received."""

    async def send_eof(self) -> None:
        """Send the end of the data."""

    async def send_last(self) -> None:
        """Half-close the call."""


class _ServerFrames:
    """The frames of a call, which ends with its handler."""

    def __init__(self, call: _Call) -> None:
        self.receive = call.receive_data
        self.send = call.send_data
        self.allowance = call.allowance
        self.send_now = call.send_now
        self.wait_failed = call.wait_failed

    def has_succeeded(self) -> bool:
        return False

    async def send_eof(self) -> None:
        await self.send(_GOAWAY)

    async def send_last(self) -> None:
        await trio.lowlevel.checkpoint()


class _ClientFrames(_ServerFrames):
    """The frames of a call that this side makes; gRPC also reports its end."""

    def __init__(self, call: ClientCall[router_pb2.StreamRequest, router_pb2.StreamResponse]) -> None:
        super().__init__(call)
        self._call = call

    async def send_last(self) -> None:
        await self._call.send_eof()

    def has_succeeded(self) -> bool:
        return self._call.has_succeeded


class RouterStream(trio.abc.HalfCloseableStream):
    """`RouterStream.client(call)` or `RouterStream.server(call)`.

    The call stays its owner's: `aclose` only ends this object; leaving the
    call's block (a client) or returning from the handler (a server) ends the call. One task may receive while
    another sends. `confirms` says that both ends have agreed on `CONFIRM`.
    """

    def __init__(self, frames: _Frames, *, confirms: bool = False, is_servers: bool = False) -> None:
        self.received = self.sent = 0
        """Bytes of data from the peer, and to it."""
        self._frames = frames
        self._is_servers = is_servers
        self._confirms = confirms
        self._confirms_at_end = True
        """Who receives the end of the data has all that came before."""
        self._owes_confirm = self._has_confirmed = False
        self._confirming: trio.Event | None = None
        """While a confirmation waits for room; who has more to send waits behind it."""
        self._is_taken = False
        """The peer has taken all of our data, and its end."""
        self._has_sent = False
        self._fault: trio.BrokenResourceError | None = None
        self._heard = trio.lowlevel.ParkingLot()
        """Wakes `finish`, when something other than data came, or nothing will."""
        self._rest = b""
        self._received_eof = False
        self._sent_eof = False
        self._is_over = False
        self._closed = False
        self._send_conflicts = _Conflict("another task is sending on this stream")
        self._receive_conflicts = _Conflict("another task is receiving on this stream")

    @classmethod
    def client(
        cls, call: ClientCall[router_pb2.StreamRequest, router_pb2.StreamResponse], *, confirms: bool = False
    ) -> RouterStream:
        """Our end of a call that we make."""
        return cls(_ClientFrames(call), confirms=confirms)

    @classmethod
    def server(
        cls, call: ServerCall[router_pb2.StreamRequest, router_pb2.StreamResponse], *, confirms: bool = False
    ) -> RouterStream:
        """Our end of a call that we serve."""
        return cls(_ServerFrames(call), confirms=confirms, is_servers=True)

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
        if not self._received_eof:
            with self._receive_conflicts:
                # Empty frames are legal and mean nothing; so do PING, RST_STREAM and what we do not know.
                while not self._rest and not self._received_eof:
                    await self._receive_frame()
        if not self._rest:
            await self._receive_end()  # others may receive now: `finish`
            return b""
        if max_bytes is None or len(self._rest) <= max_bytes:
            data, self._rest = self._rest, b""
        else:
            data, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return data

    async def _receive_end(self) -> None:
        if self._confirms_at_end:
            with suppress(trio.BrokenResourceError):  # all data came, whatever happens to the call now
                await self.confirm()
        await trio.lowlevel.checkpoint()

    async def _receive_frame(self) -> None:
        try:
            kind, payload = unpack(await self._frames.receive())
        except trio.EndOfChannel:
            self._received_eof = True
            if self._frames.has_succeeded():
                self._is_over = self._is_taken = True
            elif not self._is_taken:
                self._fault = trio.BrokenResourceError("the peer left before it had taken everything")
            self._heard.unpark_all()
            return
        except RpcError as error:
            self._fault = trio.BrokenResourceError(str(error))
            self._heard.unpark_all()
            raise self._fault from error
        if kind == router_pb2.FRAME_TYPE_DATA:
            if not self._received_eof:
                self._rest = payload
                self.received += len(payload)
            return
        if kind == router_pb2.FRAME_TYPE_GOAWAY:
            self._received_eof = True
        elif kind == router_pb2.FRAME_TYPE_PING and self._confirms and self._sent_eof:
            self._is_taken = True
        self._heard.unpark_all()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send data of any size; up to `FRAME_BYTES` bytes arrive as one piece.

        Raises:
            trio.BrokenResourceError: the call has ended.
            trio.ClosedResourceError: `send_eof` or `aclose` came before.
        """
        await self._send_all(data, FRAME_BYTES)

    async def _send_all(self, data: bytes | bytearray | memoryview, most: int) -> None:
        if self._closed or self._sent_eof:
            raise trio.ClosedResourceError("this stream was closed for sending")
        self._has_sent = True
        with self._send_conflicts:
            await self._wait_behind_confirmation()
            try:
                if len(data) <= most:
                    await self._frames.send(pack(data))
                else:
                    view = memoryview(data)
                    for start in range(0, len(data), most):
                        await self._frames.send(pack(view[start : start + most]))
                self.sent += len(data)
                if self._owes_confirm:
                    await self._send_rest()
            except RpcError as error:
                self._fault = trio.BrokenResourceError(str(error))
                raise self._fault from error

    def _send_now(self, send_buffer: SendBuffer) -> None:
        """Frames of a connection's bytes, as long as nothing has to wait."""
        if self._closed or self._sent_eof or self._send_conflicts.is_held or self._confirming is not None:
            return  # `_send_all` says what is wrong, or is at it
        while size := min(send_buffer.size, TUNNEL_FRAME_BYTES):
            if self._frames.allowance() < size + MAX_HEADER_BYTES:
                return
            self._frames.send_now(pack(send_buffer.take(size)))

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
            await self._wait_behind_confirmation()
            self._sent_eof = True
            try:
                await self._frames.send_eof()
                await self._send_rest()
            except RpcError as error:
                if self._frames.has_succeeded():
                    self._is_taken = True
                    return
                raise trio.BrokenResourceError(str(error)) from error

    # --- see `jumpstarter_proto.byte_streams.join`

    def defer_confirm(self) -> None:
        """Receiving the end of the data does not mean that it was taken: `confirm` will say so."""
        self._confirms_at_end = False

    async def confirm(self) -> None:
        """Tell the peer that all of its data was taken. Raises trio.BrokenResourceError when the call is over."""
        if not self._confirms or self._has_confirmed or self._closed or self._is_over:
            await trio.lowlevel.checkpoint()
            return
        self._owes_confirm = True
        if self._send_conflicts.is_held:
            return  # whoever sends sends it next
        self._confirming = trio.Event()
        try:
            await self._send_rest()
        except RpcError as error:
            raise trio.BrokenResourceError(str(error)) from error
        finally:
            self._confirming.set()
            self._confirming = None

    async def _wait_behind_confirmation(self) -> None:
        """The other direction's task may have to wait with it; that is no fault of who sends."""
        if self._confirming is not None:
            await self._confirming.wait()

    async def _send_rest(self) -> None:
        """What is due behind a frame that was sent."""
        if self._owes_confirm:
            self._owes_confirm = False
            self._has_confirmed = True
            await self._frames.send(_PING)
        if self._sent_eof and (self._has_confirmed or not self._confirms):
            await self._frames.send_last()

    async def finish(self, *, discard: bool = False) -> None:
        """Wait until the peer has taken all that was sent before `send_eof`; before that, for nothing.

        Who still receives data must go on with it meanwhile; with `discard` nobody does, and what comes is dropped. A
        peer that confirms gets as long as its slow device needs; the connection's end ends the wait. Another one gets
        some time after it has sent all of its data. A cancelled wait can be repeated.

        Raises:
            trio.BrokenResourceError: the peer has not taken it, and never will.
        """
        if not self._sent_eof:
            await trio.lowlevel.checkpoint()
            return
        if self._confirms:
            await self._hear(discard)
            await self._until_taken(discard)
            return
        if self._is_servers:
            await trio.lowlevel.checkpoint()  # the call's status goes behind its data, and cancels nothing
            return
        await self._hear(discard)
        with (
            trio.move_on_after(UNCONFIRMED_LEAVE_SECONDS if discard else UNCONFIRMED_SECONDS),
            suppress(trio.BrokenResourceError),  # 0.9 ends a call so
        ):
            await self._until_taken(discard)

    async def _hear(self, discard: bool) -> None:
        """Until the peer has nothing more to say, or nobody wants it."""
        while not (self._is_taken or self._received_eof or discard):
            if self._fault is not None:
                raise trio.BrokenResourceError(str(self._fault))
            await self._heard.park()

    async def _until_taken(self, discard: bool) -> None:
        while not self._is_taken:
            if self._fault is not None:
                raise trio.BrokenResourceError(str(self._fault))
            if self._receive_conflicts.is_held:
                await self._heard.park()
                continue
            with self._receive_conflicts:
                await self._receive_frame()
            self._rest = b"" if discard else self._rest

    async def wait_broken(self) -> None:
        """After the end of the data: wait until the peer is gone.

        Only a peer that confirms has an order in which it ends its calls; others may, once they have nothing to say.

        Raises:
            trio.BrokenResourceError: it is, and takes nothing more.
        """
        if not (self._confirms or self._is_servers):
            await trio.sleep_forever()
        error = await self._frames.wait_failed()
        raise trio.BrokenResourceError(str(error)) from error

    async def leave(self, seconds: float) -> None:
        """End the stream for good: send the end, if it was not sent, and wait until the peer has taken everything.

        What the peer still says is dropped. Shielded from cancellation, which `seconds` bound instead. Streams that
        nothing was sent on are left at once.

        Raises:
            trio.BrokenResourceError: some of it may not have arrived, and no call of this stream has said so yet.
        """
        if not self._has_sent or self._fault is not None or self._closed:
            await trio.lowlevel.checkpoint()
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + seconds):
            await self.send_eof()
            await self.finish(discard=True)
            return
        raise trio.BrokenResourceError(f"what was sent was not taken within {seconds:g} s")

    def byte_transport(self) -> ByteTransport:
        """For a connection that has this stream for itself (see `jumpstarter_proto.rpc.ByteTransport`)."""
        return _TunnelWire(self._send_now, self._send_all, self.receive_some)

    async def aclose(self) -> None:
        """Release the call without notifying the peer; the owner of the call ends it."""
        self._closed = True
        await trio.lowlevel.checkpoint()


class _TunnelWire:
    """A connection inside of a call: what fits into the call's window goes out at once, in large frames."""

    pending = 0
    is_whole = False

    def __init__(
        self,
        send_now: Callable[[SendBuffer], None],
        send_all: Callable[[bytes, int], Awaitable[None]],
        receive: Callable[[], Awaitable[bytes]],
    ) -> None:
        self.write_now = send_now
        self.receive = receive
        self._send_all = send_all

    def read_at_most(self, size: int) -> None:
        """A frame at a time, as before."""

    async def write(self, send_buffer: SendBuffer) -> None:
        await self._send_all(send_buffer.take(TUNNEL_FRAME_BYTES), TUNNEL_FRAME_BYTES)


class _Conflict:
    """Allows one task at a time, and raises in the second one."""

    def __init__(self, message: str) -> None:
        self._message = message
        self.is_held = False

    def __enter__(self) -> None:
        if self.is_held:
            raise trio.BusyResourceError(self._message)
        self.is_held = True

    def __exit__(self, *_: object) -> None:
        self.is_held = False
