"""Drives one connection over one byte stream, for a channel and for a server alike.

One task reads, one writes what could not be written immediately, and one sends keep-alive PINGs. Senders queue whole
frames, so cancelling a sender never cuts a frame in two. The reader never waits for the writer, because both ends
could wait for each other. Answers that a peer requests and does not read are limited.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, Protocol

import trio

from jumpstarter_proto.rpc._byte_transport import RECEIVE_BYTES, byte_transport_of
from jumpstarter_proto.rpc._connection import TOO_MANY_RESETS, ConnectionFault, GrpcConnection
from jumpstarter_proto.rpc._error_codes import ErrorCodes
from jumpstarter_proto.rpc._events import (
    CallEnded,
    CallReset,
    GoingAway,
    HalfClosed,
    MessageReceived,
    PongReceived,
    RequestReceived,
    ResponseStarted,
    WindowOpened,
)
from jumpstarter_proto.rpc._guards import RateGuard
from jumpstarter_proto.rpc._http2 import TOO_MUCH_WORK
from jumpstarter_proto.rpc._keepalive import KeepAlive, KeepAliveStep
from jumpstarter_proto.rpc._keepalives import KeepAlives
from jumpstarter_proto.rpc._messages import HEADER_BYTES, frame_header
from jumpstarter_proto.rpc._types import NotGrpcError, Options, RpcError, StatusCode

__all__ = ["CallState", "MessageSink", "Mux", "MuxOwner"]

HIGH_WATER_BYTES = 256 * 1024
"""Senders wait while more bytes than this are not yet written to the socket."""
MAX_UNSENT_BYTES = 4 * 1024 * 1024
"""A connection with more unsent bytes is closed: its peer requests answers and does not read them."""
MAX_FRAME_BYTES = 256 * 1024
"""The size limit of a frame. Small frames of several calls can alternate."""
TURN_BYTES = 1024 * 1024
"""After sending this much, a task lets other tasks run."""
TURN_MESSAGE_BYTES = 4096
"""The cost of a message besides its own bytes."""
WORK_PER_SECOND = 4000
WORK_BURST = 20_000
"""About microseconds of work that serves no call: a peer that makes us do more is cut off."""
CLOSING_GRACE_SECONDS = 1.0


class MuxOwner(Protocol):
    """What a channel or a server's connection does with events of no call, or of a new one."""

    def on_request(self, event: RequestReceived) -> None:
        """A peer opened a call."""

    def on_going_away(self, event: GoingAway) -> None:
        """The peer takes no new calls."""

    def on_end(self) -> None:
        """The connection ends, for whatever reason. The last moment to tell the peer something."""


class MessageSink(Protocol):
    """Takes a call's messages in the moment when they come. Quick, and raises nothing."""

    def take(self, message: bytes, /) -> bool:
        """Whether it was taken."""

    def flush(self) -> None:
        """Nothing more has come for now."""


class Cancellable(Protocol):
    """A cancel scope, or what stands for one."""

    def cancel(self) -> None:
        """End what runs in it."""


class CallState:
    """One open call, as the reader fills it and its task empties it."""

    __slots__ = (
        "changed",
        "ended",
        "failure",
        "half_closed",
        "headers",
        "is_sending",
        "messages",
        "on_reset",
        "sink",
        "stream_id",
        "window",
    )

    def __init__(self, stream_id: int) -> None:
        self.stream_id = stream_id
        self.messages: deque[tuple[bytes, int]] | None = None
        """None while there are none, as mostly: an empty deque has room for 64."""
        self.sink: MessageSink | None = None
        """Gets each message first, if no other waits; what it does not take waits to be received."""
        self.headers: ResponseStarted | None = None
        self.half_closed = False
        """A server's caller will send no more."""
        self.is_sending = False
        """A message is on its way in parts."""
        self.ended: CallEnded | None = None
        self.failure: RpcError | None = None
        """Reset, cancelled, or the connection is lost."""
        self.on_reset: Cancellable | None = None
        """Cancelled with the call: a handler's scope."""
        self.changed = trio.lowlevel.ParkingLot()
        """Wakes the receiving task."""
        self.window = trio.lowlevel.ParkingLot()
        """Wakes the sending task."""

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
        self.window.unpark_all()


class Mux:
    """A connection in use. `run` drives it until it ends; everything else may be called while it runs."""

    __slots__ = (
        "_chunk",
        "_client",
        "_confined",
        "_fed",
        "_flood",
        "_goodbye",
        "_held_less",
        "_high_water",
        "_is_cut",
        "_is_writing",
        "_keep_alive",
        "_keepalives",
        "_owner",
        "_reading",
        "_resets",
        "_send_buffer",
        "_transport",
        "_turn",
        "_waiting_for_window",
        "_wake_writer",
        "_work",
        "_written",
        "calls",
        "closed",
        "connection",
        "cut_reason",
        "lost",
        "options",
        "room",
        "stream",
    )

    def __init__(
        self,
        stream: trio.abc.Stream,
        owner: MuxOwner,
        *,
        client: bool,
        options: Options,
        keepalives: KeepAlives | None = None,
    ) -> None:
        """`keepalives` looks after the peer's signs of life; without one this connection has a task for it."""
        self.connection = GrpcConnection(client=client, options=options)
        self.options = options
        self.stream = stream
        self.calls: dict[int, CallState] = {}
        self.lost: RpcError | None = None
        """Why the connection is of no more use."""
        self.cut_reason = ""
        """Why we have cut the connection; empty while we have not."""
        self._confined: int | None = None
        """What an unauthenticated peer may make us hold, in bytes."""
        self._flood = MAX_UNSENT_BYTES
        """A peer that makes us hold more than this, unsent, is cut off: senders stop far below it."""
        self._high_water, self._chunk = HIGH_WATER_BYTES, MAX_FRAME_BYTES
        self._goodbye = ""
        """The reason that the peer gave when it refused new calls."""
        self.closed = trio.Event()
        self.room = trio.lowlevel.ParkingLot()
        """Wakes when a call may have become possible, or impossible."""
        self._send_buffer = self.connection.send_buffer
        self._owner = owner
        self._client = client
        self._transport = byte_transport_of(stream)
        self._reading = trio.CancelScope()
        self._wake_writer = trio.lowlevel.ParkingLot()
        self._written = trio.lowlevel.ParkingLot()
        self._held_less = trio.lowlevel.ParkingLot()
        self._waiting_for_window: dict[CallState, None] = {}
        self._fed: dict[MessageSink, None] = {}
        """What has taken messages since the last `flush` of it."""
        self._is_writing = False
        self._is_cut = False
        """A write was cut short: nothing that is sent now would make sense to the peer."""
        self._turn = 0
        self._keep_alive: KeepAlive | None = None
        self._keepalives = keepalives
        self._resets = RateGuard(options.resets_per_second, options.resets_at_once)
        self._work = RateGuard(WORK_PER_SECOND, WORK_BURST)

    # --- life

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until the connection ends, for whatever reason; `lost` says which. Closes the stream."""
        try:
            async with trio.open_nursery() as nursery:
                self.connection.start(self._confined)
                nursery.start_soon(self._write)
                self.flush()
                task_status.started()
                if self._reading.cancel_called:
                    nursery.cancel_scope.cancel()
                self._reading = nursery.cancel_scope
                with self._asking_for_life(nursery):
                    await self._read()
                nursery.cancel_scope.cancel()
        finally:
            self._owner.on_end()
            self.lose("the connection was closed")
            with trio.CancelScope(shield=True):
                with trio.move_on_after(CLOSING_GRACE_SECONDS):
                    await self._say_last_words()
                try:
                    await trio.aclose_forcefully(self.stream)
                finally:
                    self.closed.set()

    def close(self, reason: str) -> None:
        """End the connection now: fail every open call, let `run` return."""
        self.lose(reason)
        self._reading.cancel()

    def confine(self, size: int) -> None:
        """Limit the memory for an unauthenticated peer, in each direction. Before `run`."""
        self._confined = self._flood = size
        self._high_water = self._chunk = size // 4
        self._transport.read_at_most(size // 4)

    def release(self) -> None:
        """The peer is authenticated."""
        if self._confined is not None:
            self._confined, self._flood = None, MAX_UNSENT_BYTES
            self._high_water, self._chunk = HIGH_WATER_BYTES, MAX_FRAME_BYTES
            self._transport.read_at_most(RECEIVE_BYTES)
            self._held_less.unpark_all()
            self.connection.release()
            self.flush()

    def cut(self, reason: str, code: ErrorCodes = ErrorCodes.ENHANCE_YOUR_CALM) -> None:
        """End the connection for something that the peer did, and tell it why."""
        if self.lost is None:
            self.cut_reason = reason
            self.connection.goodbye(code, reason)
            self.close(reason)

    async def _say_last_words(self) -> None:
        """Send what is queued (a GOAWAY, the last status), if the peer still reads."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError, OSError):
            while self._is_unsent and not self._is_cut:
                await self._transport.write(self._send_buffer)

    def lose(self, reason: str, kind: type[RpcError] = RpcError) -> None:
        """The connection is of no more use: fail every open call, at once."""
        if self.lost is None:
            self.lost = kind(StatusCode.UNAVAILABLE, reason)
        calls, self.calls = self.calls, {}
        for call in calls.values():
            call.fail(self.lost)
        for lot in (self.room, self._written, self._wake_writer, self._held_less):
            lot.unpark_all()

    async def _read(self) -> None:
        while self.lost is None:
            if self._confined is not None:
                await self._give_way(self._confined)
            try:
                data = await self._transport.receive()
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
                self.lose(self._goodbye or _why_broken(error), self._kind_of_end())
                return
            if not data:
                self.lose(self._goodbye or "the peer closed the connection", self._kind_of_end())
                return
            if self._keep_alive is not None:
                self._keep_alive.heard(trio.current_time())
            try:
                events = self.connection.receive(data)
            except ConnectionFault as fault:
                self.cut_reason = str(fault)
                self.lose(self.cut_reason, self._kind_of_end())
                return
            if self._work.count(trio.current_time(), self.connection.take_work()):
                self.cut(TOO_MUCH_WORK)
                return
            for event in events:
                self._HANDLERS[type(event)](self, event)
            if self._fed:
                for sink in self._fed:
                    sink.flush()
                self._fed.clear()
            if self._is_unsent:
                self.flush()
                if self._send_buffer.size > self._flood:
                    self.cut("the peer asks for answers and does not read them")
            del data, events  # nothing of it is kept until there is more

    def _kind_of_end(self) -> type[RpcError]:
        """What follows from an end by the peer: one that never began HTTP/2 has read no call."""
        return RpcError if self.connection.has_begun or not self._client else NotGrpcError

    async def _give_way(self, most: int) -> None:
        """Let handlers authenticate their callers, or read, before the peer makes us hold more than it may."""
        while (
            self._confined is not None and self.lost is None and self.connection.held_in_all > most * 3 // 4
        ):
            await self._held_less.park()

    @property
    def _is_unsent(self) -> bool:
        """Whether there is something that is not on its way yet."""
        return bool(self._send_buffer.size or self._transport.pending)

    async def _write(self) -> None:
        """Write what did not fit into the socket when it was queued."""
        while self.lost is None:
            if not self._is_unsent:
                await self._wake_writer.park()
                continue
            self._is_writing = True
            try:
                await self._transport.write(self._send_buffer)
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
                await self._leave_to_reader(error)
                return
            except trio.Cancelled:
                self._is_cut = not self._transport.is_whole
                raise
            self._is_writing = False
            if self._send_buffer.size < self._high_water:
                self._written.unpark_all()

    async def _leave_to_reader(self, error: Exception) -> None:
        """Nothing can be written any more. What the peer has sent before may still be a status, so read on a while."""
        self._is_cut = True
        self._send_buffer.take()
        await trio.sleep(CLOSING_GRACE_SECONDS)
        self.close(_why_broken(error))

    def flush(self) -> None:
        """Write what is queued, as far as that goes without waiting; the writer does the rest."""
        if self._is_writing or self.lost is not None or not self._is_unsent:
            return
        with suppress(OSError):  # the writer meets it again
            self._transport.write_now(self._send_buffer)
        if self._written and self._send_buffer.size < self._high_water:
            # The writer may have been about to do this, and finds nothing to do any more.
            self._written.unpark_all()
        if self._is_unsent:
            self._wake_writer.unpark_all()

    async def drain(self) -> None:
        """Wait until all that is queued has been written."""
        self.flush()
        while self._is_unsent and self.lost is None:
            await self._written.park()

    @contextmanager
    def _asking_for_life(self, nursery: trio.Nursery) -> Iterator[None]:
        """Send keep-alive PINGs to a silent peer in the block, and end the connection if it does not answer."""
        if (interval := self.options.keepalive_interval) is None:
            yield
            return
        self._keep_alive = KeepAlive(interval, self.options.keepalive_timeout, trio.current_time())
        if self._keepalives is None:
            nursery.start_soon(self._ask_for_life, self._keep_alive.due)
            yield
        else:
            with self._keepalives.watching(self._keep_alive.due, self._look_for_life):
                yield

    async def _ask_for_life(self, due: float) -> None:
        next_due: float | None = due
        while next_due is not None:
            await trio.sleep_until(next_due)
            next_due = self._look_for_life()

    def _look_for_life(self) -> float | None:
        """Do what is due; when to do so again, or None for never."""
        assert self._keep_alive is not None
        match self._keep_alive.step(trio.current_time()):
            case KeepAliveStep.PING:
                self.connection.ping()
                self.flush()
            case KeepAliveStep.GIVE_UP:
                interval, timeout = self.options.keepalive_interval or 0, self.options.keepalive_timeout
                self.cut(f"the peer has not answered for {interval + timeout:g} s", ErrorCodes.NO_ERROR)
                return None
            case KeepAliveStep.WAIT:
                pass
        return self._keep_alive.due

    # --- events

    def _on_request(self, event: RequestReceived) -> None:
        self._owner.on_request(event)

    def _on_message(self, event: MessageReceived) -> None:
        call = self.calls.get(event.stream_id)
        if call is None:
            self.connection.acknowledge(event.stream_id, event.credit)
            return
        if call.sink is not None and not call.messages and call.sink.take(event.data):
            self.connection.acknowledge(event.stream_id, event.credit)
            self._fed[call.sink] = None
            return
        if call.messages is None:
            call.messages = deque()
        call.messages.append((event.data, event.credit))
        if call.changed:
            call.changed.unpark_all()

    def _on_response(self, event: ResponseStarted) -> None:
        if call := self.calls.get(event.stream_id):
            call.headers = event
            call.changed.unpark_all()

    def _on_ended(self, event: CallEnded) -> None:
        if call := self.calls.pop(event.stream_id, None):
            call.ended = event
            call.changed.unpark_all()
            call.window.unpark_all()
        self.room.unpark()

    def _on_half_closed(self, event: HalfClosed) -> None:
        if call := self.calls.get(event.stream_id):
            call.half_closed = True
            call.changed.unpark_all()

    def _on_call_reset(self, event: CallReset) -> None:
        if call := self.calls.pop(event.stream_id, None):
            call.fail(RpcError(StatusCode.CANCELLED, event.reason))
        if self._resets.count(trio.current_time()):
            self.cut(TOO_MANY_RESETS)

    def _on_window(self, event: WindowOpened) -> None:
        if event.stream_id:
            if call := self.calls.get(event.stream_id):
                call.window.unpark_all()
            return
        for call in self._waiting_for_window:
            call.window.unpark_all()
        self.room.unpark_all()

    def _on_going_away(self, event: GoingAway) -> None:
        self._goodbye = f"the peer closed the connection: {event.reason}" if event.reason else ""
        if self._client:
            error = RpcError(StatusCode.UNAVAILABLE, _going_away_text(event.reason))
            for stream_id in [s for s in self.calls if s > event.last_stream_id]:
                self.calls.pop(stream_id).fail(error)
                self.connection.reset(stream_id)
        self._owner.on_going_away(event)
        self.room.unpark_all()

    def _on_pong(self, event: PongReceived) -> None:
        """That something came is all there is to it."""

    _HANDLERS: ClassVar[dict[type[Any], Callable[[Mux, Any], None]]] = {
        RequestReceived: _on_request,
        MessageReceived: _on_message,
        ResponseStarted: _on_response,
        CallEnded: _on_ended,
        HalfClosed: _on_half_closed,
        CallReset: _on_call_reset,
        WindowOpened: _on_window,
        GoingAway: _on_going_away,
        PongReceived: _on_pong,
    }

    # --- what calls do

    async def receive(self, call: CallState) -> bytes | None:
        """The next message's bytes; None when the peer will send no more, and when a client's call has ended.

        Raises:
            RpcError: the call failed. Messages that came before are read first.
        """
        while not call.messages:
            if call.failure is not None:
                raise RpcError(call.failure.code, call.failure.details)
            if call.ended is not None or call.half_closed:
                await trio.lowlevel.checkpoint()
                return None
            await call.changed.park()
        # Others get their turn when what has arrived is read: then this task waits for the reader's.
        await trio.lowlevel.checkpoint_if_cancelled()
        data, credit = call.messages.popleft()
        if not call.messages:
            call.messages = None
        self.connection.acknowledge(call.stream_id, credit)
        if self._held_less:
            self._held_less.unpark_all()
        if self._send_buffer.size:
            self.flush()
        return data

    async def send(self, call: CallState, message: bytes, *, end: bool = False, more: bool = False) -> None:
        """Send one message; with `more`, what is small waits for what its caller queues next.

        When cancelled, either nothing or the whole message has been promised to the peer: a message that was begun
        and cannot be finished resets the call.

        Raises:
            RpcError: the call has ended, or the message is too large.
        """
        size = len(message)
        if size > self.options.max_send:
            raise RpcError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"the message has {size} bytes and at most {self.options.max_send} are sent; send it in parts",
            )
        connection, stream_id = self.connection, call.stream_id
        if (
            size <= connection.sendable(stream_id) - HEADER_BYTES
            and size <= self._chunk
            and self._send_buffer.size <= self._high_water
            and not call.is_over
            and not call.is_sending
        ):
            await trio.lowlevel.checkpoint_if_cancelled()
            connection.send_message(stream_id, message, end=end)
        else:
            await self._send_in_parts(call, message, end=end)
        if not more:
            self.flush()
        self._turn += size + TURN_MESSAGE_BYTES
        if self._turn > TURN_BYTES:
            self._turn = 0
            await trio.lowlevel.checkpoint()

    async def wait_failed(self, call: CallState) -> RpcError:
        """Wait until the call fails and return why. One that ends well, or has messages to receive, does not fail."""
        while True:
            if not call.messages and call.failure is not None:
                return RpcError(call.failure.code, call.failure.details)
            if not call.messages and call.ended is not None and call.ended.code is not StatusCode.OK:
                return RpcError(call.ended.code, call.ended.details, call.ended.metadata)
            await call.changed.park()

    def allowance(self, call: CallState) -> int:
        """Bytes of a message that `send` would take now without waiting for anything; 0 for none."""
        if (
            call.is_over
            or call.is_sending
            or self.lost is not None
            or self._send_buffer.size > self._high_water
        ):
            return 0
        return min(
            self.connection.sendable(call.stream_id) - HEADER_BYTES, self._chunk, self.options.max_send
        )

    def send_now(self, call: CallState, message: bytes, *, more: bool = False) -> None:
        """Send one message within the `allowance`; with `more`, when its caller says `flush`."""
        self.connection.send_message(call.stream_id, message)
        if not more:
            self.flush()

    async def _send_in_parts(self, call: CallState, message: bytes, *, end: bool) -> None:
        connection, stream_id = self.connection, call.stream_id
        left = memoryview(frame_header(len(message)) + message)
        begun = False
        if call.is_sending:
            raise trio.BusyResourceError("another task is sending on this call")
        call.is_sending = True
        try:
            while left:
                if call.is_over or self.lost is not None or not connection.is_open(stream_id):
                    raise call.failure or _ended(call)
                if self._send_buffer.size > self._high_water:
                    self.flush()
                if self._send_buffer.size > self._high_water:
                    await self._written.park()
                    continue
                size = min(len(left), connection.sendable(stream_id), self._chunk)
                if not size:
                    self.flush()
                    await self._wait_for_window(call)
                    continue
                connection.send_data(stream_id, left[:size], end=end and size == len(left))
                begun = True
                left = left[size:]
        except trio.Cancelled:
            if begun:
                self.abandon(call)
            raise
        finally:
            call.is_sending = False

    async def _wait_for_window(self, call: CallState) -> None:
        self._waiting_for_window[call] = None
        try:
            await call.window.park()
        finally:
            if not call.window:
                self._waiting_for_window.pop(call, None)

    def held(self, call: CallState) -> int:
        """Bytes in memory for a call: what was not read, and what its connection has not sent."""
        return self.connection.held(call.stream_id) + self._send_buffer.size + self._transport.pending

    def send_eof(self, call: CallState) -> None:
        """Half-close; nothing more will be sent. Not for a call that has ended."""
        if not call.is_over:
            self.connection.send_data(call.stream_id, b"", end=True)
            self.flush()

    def abandon(self, call: CallState) -> None:
        """End a call at once, with a reset if it is still open, and give its unread messages back."""
        self.calls.pop(call.stream_id, None)
        if not call.is_over:
            call.fail(RpcError(StatusCode.CANCELLED, "the call was cancelled"))
        call.messages = None
        self._held_less.unpark_all()
        if self.lost is None:
            self.connection.reset(call.stream_id)
            self.flush()
        self.room.unpark()


def _ended(call: CallState) -> RpcError:
    if call.ended is not None and call.ended.code is not StatusCode.OK:
        return RpcError(call.ended.code, call.ended.details, call.ended.metadata)
    return RpcError(StatusCode.CANCELLED, "the peer has ended the call and takes no more messages")


def _going_away_text(reason: str) -> str:
    return "the peer is going away and takes no new calls; connect again" + (f" ({reason})" if reason else "")


def _why_broken(error: Exception) -> str:
    cause = error.__cause__ or error
    return f"the connection broke: {cause}" if str(cause) else "the connection broke"
