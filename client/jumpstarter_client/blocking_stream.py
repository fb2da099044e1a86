"""The byte stream of a device, for plain threads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from queue import SimpleQueue

import trio
from jumpstarter_proto.byte_streams.router_stream import RouterStream

from jumpstarter_client.blocking import BlockingPortal

__all__ = ["BlockingStream", "blocking_stream"]

READ_AHEAD_CHUNKS = 8
"""How many chunks (of at most 64 KiB) are read before a thread receives them."""


@asynccontextmanager
async def blocking_stream(
    opened: AbstractAsyncContextManager[RouterStream], portal: BlockingPortal
) -> AsyncIterator[BlockingStream]:
    """Open `opened` for the block, and yield its stream for threads."""
    async with opened as stream, trio.open_nursery() as nursery:
        blocking = BlockingStream(stream, portal)
        nursery.start_soon(blocking._read_ahead)  # noqa: SLF001 - one module
        try:
            yield blocking
        finally:
            blocking._left = True  # noqa: SLF001
            nursery.cancel_scope.cancel()


class BlockingStream:
    """A byte stream for plain code. One thread may receive while another one sends.

    After the first `receive`, data is read ahead, so that a thread does not wait for two thread switches each time, and
    an interrupted `receive` loses no data.
    """

    def __init__(self, stream: RouterStream, portal: BlockingPortal) -> None:
        self._stream = stream
        self._portal = portal
        self._arrived: SimpleQueue[bytes | Exception] = SimpleQueue()
        self._rest = b""
        self._end: Exception | None = None
        """What every further `receive` raises; an EOFError means that it returns no bytes."""
        self._allowed = trio.Semaphore(0)
        """Chunks that the loop may read."""
        self._awaited = 0
        """Chunks that were allowed and not received yet; used by the receiving thread only."""
        self._left = False
        self.on_close: Callable[[], None] = _nothing

    def receive(self, max_bytes: int | None = None) -> bytes:
        """Return the next bytes; empty at the end. Raises trio.BrokenResourceError if the stream was cut."""
        if max_bytes is not None and max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        data = self._rest or self._next_chunk()
        if max_bytes is None:
            max_bytes = len(data)
        self._rest = data[max_bytes:]
        return data[:max_bytes]

    def _next_chunk(self) -> bytes:
        if self._left:
            raise trio.ClosedResourceError("this stream was closed")
        if self._end is None:
            if self._awaited <= READ_AHEAD_CHUNKS // 2:
                self._portal.soon(self._allow, READ_AHEAD_CHUNKS - self._awaited)
                self._awaited = READ_AHEAD_CHUNKS
            chunk = self._arrived.get()
            self._awaited -= 1
            if isinstance(chunk, bytes):
                return chunk
            self._end = chunk
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
            self._arrived.put(end)  # a waiting `receive` always gets an end

    def send(self, data: bytes) -> None:
        """Send all data."""
        self._portal.call(self._stream.send_all, data)

    def send_eof(self) -> None:
        """Send no more data; receiving still works."""
        self._portal.call(self._stream.send_eof)

    def close(self) -> None:
        """Close the stream if it was opened without a block."""
        on_close, self.on_close = self.on_close, _nothing
        on_close()


def _nothing() -> None:
    """Do nothing: the stream was opened with a block."""
