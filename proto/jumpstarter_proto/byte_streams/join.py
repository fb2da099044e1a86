"""Joins two byte streams: what comes out of either goes into the other.

Forwards, driver streams, consoles, files and the router all do it here, so that what holds for bytes in flight holds
everywhere. `join` says what that is.
"""

from __future__ import annotations

import fcntl
import math
import socket
import struct
import termios
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Protocol, TypeAlias

import trio

__all__ = ["LEAVE_SECONDS", "BrokenJoinError", "JoinableStream", "abort", "closing", "join"]

LEAVE_SECONDS = 3.0
"""What a cancelled `join` may still take."""
QUIET_SECONDS = 0.05
"""After a cancellation, a stream without output for this long is considered empty."""
FLUSH_SECONDS = 1.0
"""What a stream may take to pass on what it got before it is aborted because the other one broke."""
STALL_SECONDS = 30.0
"""After this time without progress, the kernel delivers the remaining data of a socket alone."""
_TCP_CLOSE = 7
"""Of Linux' states of a connection, as TCP_INFO begins with."""
POLL_SECONDS = (0.001, 0.05)
"""Between two looks at a socket, which reports no event for this: the first, and the longest."""


class JoinableStream(Protocol):
    """The methods of a stream that `join` needs.

    `receive_some` must lose nothing when it is cancelled. Used where a stream has them: `send_eof`;
    `finish(discard)`, which waits until the peer has taken all that was sent and raises trio.BrokenResourceError if it
    never will (with `discard`, nobody else reads the stream any more); `wait_broken`, which raises
    trio.BrokenResourceError when the peer of a stream whose data has ended is gone; `confirm`, which tells the peer
    that all it sent was taken; `defer_confirm`, after which nothing but `confirm` says so; `abort`, after which closing
    the stream is an error for its peer, and never looks like an end of data.
    """

    async def receive_some(self) -> bytes | bytearray:
        """The next data; b"" at its end."""

    async def send_all(self, data: bytes, /) -> None:
        """Send all of it, waiting while the peer is slow."""


Stream: TypeAlias = JoinableStream


class BrokenJoinError(trio.BrokenResourceError):
    """One of two joined streams broke, and bytes that were accepted may not have arrived."""

    def __init__(self, side: Stream, error: BaseException | None) -> None:
        self.side = side
        """The stream that broke; the other one was aborted."""
        reason = "" if error is None else str(error.__cause__ or error)
        super().__init__(reason or "the connection broke")


async def join(
    one: Stream, other: Stream, *, ends_with: Collection[Stream] = (), leave_seconds: float = LEAVE_SECONDS
) -> None:
    """Copy both ways until both directions have ended; close neither stream.

    All who join streams rely on this:

    - Half-close: the end of data of one stream is sent on as the end of data (`send_eof`) of the other, behind
      all bytes. It ends that direction only; the other one goes on as long as it likes.
    - Slow reader: at most one piece of each direction is held here. A stream is not read while the other does not take
      its data, so its peer waits, and nothing is dropped.
    - End: a direction is over when its bytes have been taken, not when they have been handed over: `finish` of the
      receiving stream is awaited, then its source is told (`confirm`). For a socket, taken means that the other
      host has acknowledged it.
    - Loss: when a stream breaks, what the other one already got still arrives, what the broken one has said is
      still delivered, and then both are aborted, so that a peer that can still hear gets an error (a TCP
      connection is reset) and not an end of data. What comes for the broken one meanwhile is dropped.
      BrokenJoinError says which one broke. That a stream breaks after its data has ended is noticed, too, where it
      has a `wait_broken`. Another exception of a stream does the same and is raised as it is,
      rather than the broken streams that it leads to.
    - `ends_with`: the end of what one of these streams says ends the whole join, as soon as that has been taken.
      Output that comes meanwhile is dropped. For users of a console, which has no end of its own.
    - Cancellation: each stream is read until it is quiet or at its end, what was read is passed on, and an end is
      passed on as above, all of it within `leave_seconds`. Streams whose data did not end are then aborted.

    Unix sockets and in-memory streams have no reset: for their peers an abort is an end, and only the error here tells.

    Raises:
        BrokenJoinError: bytes may have been lost.
    """
    await _Join(one, other, ends_with, leave_seconds).run()


def abort(stream: object) -> None:
    """Let the peer see an error, not an end of data, when the stream is closed; as far as its transport has one."""
    own: Callable[[], None] | None = getattr(stream, "abort", None)
    if own is not None:
        own()
    elif isinstance(stream, trio.SocketStream) and _is_tcp(stream):
        with suppress(OSError):  # it is closed
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@asynccontextmanager
async def closing(stream: trio.abc.AsyncResource) -> AsyncIterator[None]:
    """Close the stream with the block; as an error for its peer when the block is left with an exception."""
    try:
        yield
    except BaseException:
        abort(stream)
        raise
    finally:
        await trio.aclose_forcefully(stream)


class _Join:
    """Two directions, and how each ended."""

    def __init__(
        self, one: Stream, other: Stream, ends_with: Collection[Stream], leave_seconds: float
    ) -> None:
        self._streams = (one, other)
        self._there, self._back = _Direction(one, other), _Direction(other, one)
        self._there.back, self._back.back = self._back, self._there
        self._ends_with = ends_with
        self._leave_seconds = leave_seconds
        self._pumping = trio.CancelScope(shield=True)
        self._over = trio.Event()
        self._has_ended = False
        """A stream of `ends_with` has ended, and all it said was taken."""
        self._failure: Exception | None = None

    async def run(self) -> None:
        for stream in self._streams:
            if (defer := getattr(stream, "defer_confirm", None)) is not None:
                defer()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pump)
            try:
                await self._over.wait()
            except trio.Cancelled:
                self._pumping.deadline = trio.current_time() + self._leave_seconds
                self._there.leave()
                self._back.leave()
                raise
        if self._failure is not None:
            raise self._failure

    async def _pump(self) -> None:
        try:
            with self._pumping:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._copy, self._there)
                    nursery.start_soon(self._copy, self._back)
        finally:
            is_whole = self._has_ended or (self._there.is_over and self._back.is_over)
            if self._failure is not None or not is_whole:
                for stream in self._streams:
                    abort(stream)
            self._over.set()

    async def _copy(self, direction: _Direction) -> None:
        try:
            with direction.running:
                await self._copy_or_break(direction)
        except Exception as error:  # whatever a driver's stream raises, at any time: `run` raises it again
            self._fail(error)
            self._pumping.cancel()
        finally:
            direction.set_ended()

    async def _copy_or_break(self, direction: _Direction) -> None:
        try:
            await self._copy_to_end(direction)
        except _BrokenSourceError as error:
            self._fail(BrokenJoinError(direction.source, error.__cause__))
            with trio.move_on_after(FLUSH_SECONDS), suppress(_BrokenSinkError):
                await direction.flush()
            self._pumping.cancel()
        except _BrokenSinkError as error:
            # What the broken stream still has to say goes on, to its end. One that ends all is owed nothing.
            direction.back.discard()
            if direction.sink not in self._ends_with:
                self._fail(BrokenJoinError(direction.sink, error.__cause__))
            await direction.drop()

    async def _copy_to_end(self, direction: _Direction) -> None:
        if not await direction.copy():
            await direction.flush()
        elif direction.source in self._ends_with:
            await direction.back.stop()
            await direction.end(discard=True)
            self._has_ended = True
        else:
            await direction.end()
            direction.set_ended()
            await direction.watch()

    def _fail(self, error: Exception) -> None:
        if self._failure is None or (
            isinstance(self._failure, BrokenJoinError) and not isinstance(error, BrokenJoinError)
        ):
            self._failure = error


class _BrokenSourceError(Exception):
    pass


class _BrokenSinkError(Exception):
    pass


_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


class _Direction:
    """The direction from one stream to the other."""

    def __init__(self, source: Stream, sink: Stream) -> None:
        self.source = source
        self.sink = sink
        self.running = trio.CancelScope()
        self.is_over = False
        """Its source has ended, and the sink's peer has taken everything."""
        self.is_taken = False
        """The same, whether its source was told or not."""
        self.is_refused = False
        """The sink has broken."""
        self._uses_sink = False
        self._unused = trio.lowlevel.ParkingLot()
        self._is_left = False
        self._discards = False
        """Nobody else reads the sink any more."""
        self._receiving = trio.CancelScope()
        self._flushing = trio.CancelScope()
        self.has_stopped = trio.Event()
        """It takes nothing more from its source."""
        self.has_ended = False
        """Nothing is done for it any more."""
        self._dropping = trio.CancelScope()
        self._dropped = trio.Event()
        self.back: _Direction
        """The other direction."""

    async def copy(self) -> bool:
        """Until the end of the source, or until it is quiet when it was left: then False."""
        try:
            while True:
                data: bytes | bytearray | None = None
                deadline = trio.current_time() + QUIET_SECONDS if self._is_left else math.inf
                with trio.CancelScope(deadline=deadline) as self._receiving:
                    data = await self._receive()
                if data is None:
                    return False
                if not data:
                    self.has_stopped.set()
                    await self._verify_end()
                    return True
                await self._send(data)
        finally:
            self.has_stopped.set()

    async def _verify_end(self) -> None:
        """A socket reports a reset once, to the first send or receive; after that it only reports an end."""
        if isinstance(self.source, trio.SocketStream):
            if _is_dead(self.source):
                await self.back.until_unused()
            if self.back.is_refused:
                raise _BrokenSourceError

    async def until_unused(self) -> None:
        """Wait until what is being sent has been sent, or refused."""
        while self._uses_sink:
            await self._unused.park()

    @contextmanager
    def _use(self) -> Iterator[None]:
        """While something is done to the sink."""
        self._uses_sink = True
        try:
            yield
        except _BROKEN as error:
            self.is_refused = True
            raise _BrokenSinkError from error
        finally:
            self._uses_sink = False
            self._unused.unpark_all()

    async def _receive(self) -> bytes | bytearray:
        try:
            return await self.source.receive_some()
        except _BROKEN as error:
            raise _BrokenSourceError from error

    async def _send(self, data: bytes | bytearray) -> None:
        with self._use():
            await self.sink.send_all(bytes(data))

    async def end(self, *, discard: bool = False) -> None:
        """Forward the end, wait until everything was received, and confirm it."""
        if (send_eof := getattr(self.sink, "send_eof", None)) is not None:
            with self._use():
                await send_eof()
        await self.flush(discard=discard)
        self.is_taken = True
        if (confirm := getattr(self.source, "confirm", None)) is not None:
            with suppress(*_BROKEN):  # its owner learns of that in the other direction
                await confirm()
        self.is_over = True

    async def flush(self, *, discard: bool = False) -> None:
        """Wait until the sink's peer has taken what was sent."""
        with self._use():
            if not discard and not self._discards:
                with trio.CancelScope() as self._flushing:
                    await _finish(self.sink, discard=False)
                    return
            # What comes now is dropped, but not before it was passed on.
            await self.back.has_stopped.wait()
            self.back.stop_dropping()
            if self.back.is_refused and not self.back.has_ended:
                await self.back._dropped.wait()  # noqa: SLF001 - its own class
            await _finish(self.sink, discard=True)

    def set_ended(self) -> None:
        """Mark the sink as closed: its end no longer concerns this direction."""
        self.has_ended = True
        self.back.stop_dropping()

    async def watch(self) -> None:
        """While the other direction goes on, see whether the source's peer is still there to take what it brings."""
        wait_broken: Callable[[], Awaitable[None]] | None = getattr(self.source, "wait_broken", None)
        if wait_broken is None or self.back.has_ended or self._dropping.cancel_called:
            return
        with self._dropping:
            try:
                await wait_broken()
            except _BROKEN as error:
                if not self.back.is_taken:
                    raise _BrokenSourceError from error

    def leave(self) -> None:
        """Take what is there, and no more."""
        self._is_left = True
        self._receiving.deadline = trio.current_time() + QUIET_SECONDS
        self.discard()

    def discard(self) -> None:
        """From now on, what its sink says is for nobody."""
        self._discards = True
        self._flushing.cancel()

    async def drop(self) -> None:
        """Take what the source says, for nobody, while the other direction goes on.

        Else the source's peer, whose words fill the way, may never come to take what the other direction brings.
        """
        try:
            if not self.back.has_ended and not self._dropping.cancel_called:
                with self._dropping, suppress(_BrokenSourceError):
                    while await self._receive():
                        pass
        finally:
            self._dropped.set()

    def stop_dropping(self) -> None:
        """Leave the source to others, or to nobody; see no more whether it is there."""
        self._dropping.cancel()

    async def stop(self) -> None:
        """Take nothing more, and leave the source to others."""
        self.running.cancel()
        await self.has_stopped.wait()


async def _finish(stream: Stream, *, discard: bool) -> None:
    own: Callable[..., Awaitable[Any]] | None = getattr(stream, "finish", None)
    if own is not None:
        await own(discard=discard)
    elif isinstance(stream, trio.SocketStream):
        await _finish_socket(stream)


async def _finish_socket(stream: trio.SocketStream) -> None:
    """Wait until the peer's kernel (for a unix socket: its reader) has received everything, while there is progress."""
    pause, longest = POLL_SECONDS
    left, since = -1, trio.current_time()
    while True:
        # The peer goes on meanwhile, so the order matters. A connection that is over before its bytes are counted
        # acknowledges no more of them; a unix socket whose peer has dropped them has an error before they are gone.
        try:
            is_dead = _is_dead(stream)
            unsent = struct.unpack("i", fcntl.ioctl(stream.socket.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
            error = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except OSError as closed:
            raise trio.ClosedResourceError("the socket was closed") from closed
        if error:
            raise trio.BrokenResourceError from OSError(error, "the peer reset the connection")
        if not unsent:
            await trio.lowlevel.checkpoint()
            return
        if is_dead:
            raise trio.BrokenResourceError("the peer closed the connection and did not take everything")
        if unsent != left:
            left, since = unsent, trio.current_time()
        elif trio.current_time() - since > STALL_SECONDS:
            return
        await trio.sleep(pause)
        pause = min(pause * 2, longest)


def _is_dead(stream: trio.SocketStream) -> bool:
    """Whether nothing more goes either way, be it that both have ended and were acknowledged, or by a reset."""
    if not _is_tcp(stream):
        return False
    state = stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return state[0] == _TCP_CLOSE


def _is_tcp(stream: trio.SocketStream) -> bool:
    return stream.socket.family in (socket.AF_INET, socket.AF_INET6)
