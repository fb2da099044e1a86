"""Drives one connection over one byte stream, for a channel and for a server alike.

One task reads, one task writes what could not be written at once, and one asks for signs of life. Whoever sends
queues whole frames, so cancelling a sender never cuts a frame in two. The reader never waits for the writer:
both ends could be waiting for each other. What a peer makes us answer without reading the answers is bounded.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import trio
from h2.errors import ErrorCodes

from jumpstarter_proto.rpc._connection import Connection, ConnectionFault
from jumpstarter_proto.rpc._events import (
    CallEnded,
    CallReset,
    Event,
    GoingAway,
    HalfClosed,
    MessageReceived,
    PongReceived,
    RequestReceived,
    ResponseStarted,
    WindowOpened,
)
from jumpstarter_proto.rpc._messages import frame_header
from jumpstarter_proto.rpc._types import Options, RpcError, StatusCode

__all__ = ["CallState", "Mux", "Owner"]

RECEIVE_BYTES = 256 * 1024
HIGH_WATER = 256 * 1024
"""Senders wait while more than this waits for the socket."""
WRITE_BYTES = 128 * 1024
"""Frames are collected up to this size before they are written."""
FLOOD = 8 * 1024 * 1024
"""A peer that makes us hold more than this, unsent, is cut off: senders stop far below it."""
CHUNK = 256 * 1024
"""Most bytes of one frame; smaller ones keep calls from waiting for each other's."""


class Owner(Protocol):
    """What a channel or a server's connection does with events of no call, or of a new one."""

    def on_request(self, event: RequestReceived) -> None:
        """A peer opened a call."""

    def on_going_away(self, event: GoingAway) -> None:
        """The peer takes no new calls."""


class CallState:
    """One open call, as the reader fills it and its task empties it."""

    __slots__ = ("changed", "ended", "failure", "half_closed", "headers", "messages", "on_reset", "stream_id")

    def __init__(self, stream_id: int) -> None:
        self.stream_id = stream_id
        self.messages: deque[tuple[bytes, int]] = deque()
        self.headers: ResponseStarted | None = None
        self.half_closed = False
        """A server's caller will send no more."""
        self.ended: CallEnded | None = None
        self.failure: RpcError | None = None
        """Reset, cancelled, or the connection is lost."""
        self.on_reset: trio.CancelScope | None = None
        """Cancelled with the call: a handler's scope."""
        self.changed = trio.lowlevel.ParkingLot()

    @property
    def is_over(self) -> bool:
        """Nothing can be sent any more."""
        return self.ended is not None or self.failure is not None

    def fail(self, error: RpcError) -> None:
        """End it, unless it has ended."""
        if not self.is_over:
            self.failure = error
            if self.on_reset is not None:
                self.on_reset.cancel()
        self.changed.unpark_all()


class Mux:
    """A connection in use. `run` drives it until it ends; everything else may be called while it runs."""

    def __init__(self, stream: trio.abc.Stream, owner: Owner, *, client: bool, options: Options) -> None:
        self.connection = Connection(client=client, options=options)
        self.options = options
        self.calls: dict[int, CallState] = {}
        self.lost: RpcError | None = None
        """Why the connection is of no more use."""
        self.closed = trio.Event()
        self.room = trio.lowlevel.ParkingLot()
        """Wakes when a call has ended, or when the peer changed its settings."""
        self._stream = stream
        self._owner = owner
        self._client = client
        self._fd = _plain_socket(stream)
        self._rest = b""
        """Taken from the connection and not yet written."""
        self._wake_writer = trio.lowlevel.ParkingLot()
        self._written = trio.lowlevel.ParkingLot()
        self._window = trio.lowlevel.ParkingLot()
        self._is_writing = False
        self._last_received = 0.0
        self._resets = 0.0
        self._resets_at = 0.0

    # --- life

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until the connection ends, for whatever reason; `lost` says which. Closes the stream."""
        self._last_received = self._resets_at = trio.current_time()
        self.connection.start()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                if self.options.keepalive_interval is not None:
                    nursery.start_soon(self._keep_alive, self.options.keepalive_interval)
                self.flush()
                task_status.started()
                await self._read()
                nursery.cancel_scope.cancel()
        finally:
            self.lose("the connection was closed")
            with trio.move_on_after(1.0, shield=True):
                await self._say_last_words()
            try:
                await trio.aclose_forcefully(self._stream)
            finally:
                self.closed.set()

    async def _say_last_words(self) -> None:
        """Send what is queued (a GOAWAY, the last status), if the peer still reads."""
        if self._is_writing:
            return  # interrupted in the middle of a frame: nothing that follows could be read
        if data := self._take():
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
                await self._stream.send_all(data)

    def lose(self, reason: str) -> None:
        """The connection is of no more use: fail every open call, at once."""
        if self.lost is None:
            self.lost = RpcError(StatusCode.UNAVAILABLE, reason)
        for call in list(self.calls.values()):
            call.fail(self.lost)
        self.calls.clear()
        for lot in (self.room, self._written, self._window, self._wake_writer):
            lot.unpark_all()

    async def _read(self) -> None:
        while self.lost is None:
            try:
                data = await self._stream.receive_some(RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                cause = error.__cause__ or error
                self.lose(f"the connection broke: {cause}" if str(cause) else "the connection broke")
                return
            if not data:
                self.lose("the peer closed the connection")
                return
            self._last_received = trio.current_time()
            try:
                events = self.connection.receive(bytes(data))
            except ConnectionFault as fault:
                self.lose(str(fault))
                return
            for event in events:
                self._dispatch(event)
            self.flush()
            if self.connection.pending + len(self._rest) > FLOOD:
                self._cut_off("the peer asks for answers and does not read them")

    async def _write(self) -> None:
        """Write what did not fit into the socket when it was queued."""
        while self.lost is None:
            data = self._take()
            if not data:
                await self._wake_writer.park()
                continue
            self._is_writing = True
            try:
                await self._stream.send_all(data)
                self._is_writing = False
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                # The reader learns why; it may still have a status to read.
                return
            self._written.unpark_all()

    async def _keep_alive(self, interval: float) -> None:
        while True:
            await trio.sleep_until(self._last_received + interval)
            if trio.current_time() < self._last_received + interval:
                continue
            before = self._last_received
            self.connection.ping()
            self.flush()
            with trio.move_on_after(self.options.keepalive_timeout):
                while self._last_received == before:
                    await self.room.park()
            if self._last_received == before:
                self.lose(f"the peer has not answered for {interval + self.options.keepalive_timeout:g} s")
                await trio.aclose_forcefully(self._stream)
                return

    def _take(self) -> bytes:
        data, self._rest = self._rest + self.connection.take(), b""
        return data

    async def drained(self) -> None:
        """Wait until everything queued is with the socket, or the connection is lost."""
        while self.lost is None and (self._is_writing or self._rest or self.connection.pending):
            await self._written.park()

    def flush(self) -> None:
        """Write what is queued, as far as that goes without waiting; the writer does the rest."""
        if self._is_writing or self.lost is not None:
            return
        if self._fd is not None and not self._rest:
            data = self.connection.take()
            if not data:
                return
            try:
                sent = os.write(self._fd(), data)
            except BlockingIOError:
                sent = 0
            except OSError:
                sent = len(data)  # the connection is broken, as the reader is about to learn
            if sent == len(data):
                return
            self._rest = data[sent:]
        self._wake_writer.unpark_all()

    def _cut_off(self, reason: str) -> None:
        self.connection.goodbye(ErrorCodes.ENHANCE_YOUR_CALM, reason)
        self.lose(reason)

    # --- events

    def _dispatch(self, event: Event) -> None:
        match event:
            case MessageReceived(stream_id, data, credit):
                if call := self.calls.get(stream_id):
                    call.messages.append((data, credit))
                    call.changed.unpark_all()
                else:
                    self.connection.acknowledge(stream_id, credit)
            case ResponseStarted(stream_id):
                if call := self.calls.get(stream_id):
                    call.headers = event
                    call.changed.unpark_all()
            case CallEnded(stream_id):
                if call := self.calls.pop(stream_id, None):
                    call.ended = event
                    call.changed.unpark_all()
                self._window.unpark_all()
                self.room.unpark_all()
            case HalfClosed(stream_id):
                if call := self.calls.get(stream_id):
                    call.half_closed = True
                    call.changed.unpark_all()
            case CallReset(stream_id, reason):
                if call := self.calls.pop(stream_id, None):
                    call.fail(RpcError(StatusCode.CANCELLED, reason))
                self._window.unpark_all()
                self._count_reset()
            case WindowOpened():
                self._window.unpark_all()
                self.room.unpark_all()
            case RequestReceived():
                self._owner.on_request(event)
            case GoingAway():
                self._going_away(event)
                self._owner.on_going_away(event)
            case PongReceived():
                self.room.unpark_all()

    def _going_away(self, event: GoingAway) -> None:
        if not self._client:
            return
        error = RpcError(StatusCode.UNAVAILABLE, _going_away_text(event.reason))
        for stream_id in [s for s in self.calls if s > event.last_stream_id]:
            self.calls.pop(stream_id).fail(error)
            self.connection.reset(stream_id)

    def _count_reset(self) -> None:
        """A peer that opens and cancels calls all day costs us, and nothing of its own (CVE-2023-44487)."""
        now = trio.current_time()
        rate = self.options.resets_per_second
        self._resets = max(0.0, self._resets - (now - self._resets_at) * rate) + 1
        self._resets_at = now
        if self._resets > 5 * rate:
            self._cut_off("the peer cancels too many calls")

    # --- what calls do

    async def receive(self, call: CallState) -> bytes | None:
        """The next message's bytes; None when the peer will send no more, and when a client's call has ended.

        Raises:
            RpcError: the call failed. Messages that came before are read first.
        """
        while not call.messages:
            if call.failure is not None:
                raise call.failure
            if call.ended is not None or call.half_closed:
                await trio.lowlevel.checkpoint()
                return None
            await call.changed.park()
        await trio.lowlevel.checkpoint_if_cancelled()
        data, credit = call.messages.popleft()
        self.connection.acknowledge(call.stream_id, credit)
        if self.connection.pending:
            self.flush()
        return data

    async def send(self, call: CallState, message: bytes, *, end: bool = False) -> None:
        """Send one message.

        When cancelled, nothing of it was sent, or the call is reset: half a message cannot be taken back.

        Raises:
            RpcError: the call has ended, or the message is too large.
        """
        if len(message) > self.options.max_send:
            raise RpcError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"the message has {len(message)} bytes and at most {self.options.max_send} are sent; send it in parts",
            )
        connection, stream_id = self.connection, call.stream_id
        left = memoryview(frame_header(len(message)) + message)
        begun = False
        try:
            while True:
                if call.is_over or not connection.is_open(stream_id):
                    raise call.failure or _ended(call)
                if connection.pending + len(self._rest) > HIGH_WATER:
                    await self._written.park()
                    continue
                size = min(len(left), connection.sendable(stream_id), CHUNK)
                if not size:
                    self.flush()
                    await self._window.park()
                    continue
                is_last = size == len(left)
                connection.send_data(stream_id, left[:size], end=end and is_last)
                begun = True
                if is_last:
                    self.flush()
                    break
                if connection.pending > WRITE_BYTES:
                    self.flush()
                left = left[size:]
        except trio.Cancelled:
            if begun:
                self.abandon(call)
            raise
        await trio.lowlevel.checkpoint()

    def send_eof(self, call: CallState) -> None:
        """Half-close; nothing more will be sent. Not for a call that has ended."""
        if not call.is_over:
            self.connection.send_data(call.stream_id, b"", end=True)
            self.flush()

    def abandon(self, call: CallState) -> None:
        """End a call at once, with a reset if it is still open, and give its unread messages back."""
        self.calls.pop(call.stream_id, None)
        call.fail(RpcError(StatusCode.CANCELLED, "the call was cancelled"))
        call.messages.clear()
        if self.lost is None:
            self.connection.reset(call.stream_id)
            self.flush()
        self.room.unpark_all()


def _ended(call: CallState) -> RpcError:
    if call.ended is not None and call.ended.code is not StatusCode.OK:
        return RpcError(call.ended.code, call.ended.details, call.ended.metadata)
    return RpcError(StatusCode.CANCELLED, "the peer has ended the call and takes no more messages")


def _going_away_text(reason: str) -> str:
    return "the peer is going away and takes no new calls; connect again" + (f" ({reason})" if reason else "")


def _plain_socket(stream: trio.abc.Stream) -> Callable[[], int] | None:
    """A kernel socket's `fileno`, when bytes may be written to it directly: no TLS and no tunnel above it."""
    return stream.socket.fileno if type(stream) is trio.SocketStream else None
