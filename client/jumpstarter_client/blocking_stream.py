"""A device's byte stream for plain threads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from queue import SimpleQueue

import trio
from jumpstarter_proto.byte_streams.router_stream import RouterStream

from jumpstarter_client.blocking import Bridge

__all__ = ["BlockingStream", "blocking_stream"]

AHEAD = 8
"""Pieces (of 64 KiB at most) that are read before a thread asks for them."""


@asynccontextmanager
async def blocking_stream(
    opened: AbstractAsyncContextManager[RouterStream], bridge: Bridge
) -> AsyncIterator[BlockingStream]:
    """The stream of `opened`, for threads; `opened` stays open as long as this."""
    async with opened as stream, trio.open_nursery() as nursery:
        blocking = BlockingStream(stream, bridge)
        nursery.start_soon(blocking._read_ahead)  # noqa: SLF001 - one module
        try:
            yield blocking
        finally:
            blocking._left = True  # noqa: SLF001
            nursery.cancel_scope.cancel()


class BlockingStream:
    """A byte stream for plain code. One thread may receive while another sends.

    From the first `receive` on, data is read ahead, so that a thread that receives does not wait for two
    switches of threads each time, and an interrupted `receive` loses nothing.
    """

    def __init__(self, stream: RouterStream, bridge: Bridge) -> None:
        self._stream = stream
        self._bridge = bridge
        self._arrived: SimpleQueue[bytes | Exception] = SimpleQueue()
        self._rest = b""
        self._end: Exception | None = None
        """What every further `receive` raises or, an EOFError, returns as empty."""
        self._allowed = trio.Semaphore(0)
        """Pieces that may be read, for the loop's side of the bridge."""
        self._awaited = 0
        """Pieces that were allowed and have not been received, for the thread's."""
        self._left = False
        self.on_close: Callable[[], None] = _nothing

    def receive(self, max_bytes: int | None = None) -> bytes:
        """The next bytes; empty at the end. Raises trio.BrokenResourceError when the stream was cut."""
        if max_bytes is not None and max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        data = self._rest or self._next_piece()
        if max_bytes is None:
            max_bytes = len(data)
        self._rest = data[max_bytes:]
        return data[:max_bytes]

    def _next_piece(self) -> bytes:
        if self._left:
            raise trio.ClosedResourceError("this stream was closed")
        if self._end is None:
            if self._awaited <= AHEAD // 2:
                self._bridge.soon(self._allow, AHEAD - self._awaited)
                self._awaited = AHEAD
            piece = self._arrived.get()
            self._awaited -= 1
            if isinstance(piece, bytes):
                return piece
            self._end = piece
        if isinstance(self._end, EOFError):
            return b""
        raise self._end

    def _allow(self, count: int) -> None:
        for _ in range(count):
            self._allowed.release()

    async def _read_ahead(self) -> None:
        end: Exception = trio.ClosedResourceError("this stream was closed")
        try:
            while True:
                await self._allowed.acquire()
                data = await self._stream.receive_some()
                if not data:
                    end = EOFError()
                    return
                self._arrived.put(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            end = error
        finally:
            self._arrived.put(end)  # whoever waits in `receive` is never left there

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._bridge.call(self._stream.send_all, data)

    def send_eof(self) -> None:
        """Send no more; what comes still arrives."""
        self._bridge.call(self._stream.send_eof)

    def close(self) -> None:
        """End it, if it was opened without a block."""
        on_close, self.on_close = self.on_close, _nothing
        on_close()


def _nothing() -> None:
    """Nothing to close."""
