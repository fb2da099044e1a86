"""A unix socket that is connected to a leased board, for the processes inside `jumpstarter shell`.

Each connection gets its own tunnel through the router. If no tunnel can be opened, each call on the connection fails
with the reason, which any client can show to its user.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

import trio
from jumpstarter_proto.byte_streams.join import BrokenJoinError, join
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.rpc import (
    RpcError,
    ServerCall,
    StatusCode,
    serve_connection,
    socket_folder,
    unix_listener,
)
from jumpstarter_proto.tasks import first_of
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceServicer
from jumpstarter_proto.v1.router_grpc import RouterServiceServicer

from jumpstarter_client.borrowed_stream import BorrowedStream

__all__ = ["open_local_proxy"]

MAX_PREFETCHED_BYTES = 64 * 1024
"""What a client may send before its tunnel is open."""
REJECTION_SECONDS = 30.0
REJECTION_LINGER_SECONDS = 0.5
"""A rejected client may repeat its call on the same connection so long; after that it has to reconnect."""

_log = logging.getLogger(__name__)

Dial: TypeAlias = Callable[[], AbstractAsyncContextManager[trio.abc.HalfCloseableStream]]


@asynccontextmanager
async def open_local_proxy(dial: Dial) -> AsyncIterator[str]:
    """Serve a unix socket during the block and yield its path. Leaving the block closes all connections."""
    with socket_folder("jumpstarter-lease-") as folder:
        path = folder / "socket"

        async def handle(near: trio.SocketStream) -> None:
            await _forward(near, dial)

        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, handle, [unix_listener(path)])
            yield str(path)
            nursery.cancel_scope.cancel()


async def _forward(near: trio.abc.HalfCloseableStream, dial: Dial) -> None:
    prefetched = _PrefetchedStream(near)
    async with near, trio.open_nursery() as nursery:
        nursery.start_soon(prefetched.read, nursery.cancel_scope)
        try:
            async with dial() as far:
                prefetched.stop()
                await join(prefetched, far)
        except BrokenJoinError as error:
            # The client sees its calls fail on the HTTP/2 connection inside the tunnel.
            _log.info("a connection to the board ended: %s", error)
        except JumpstarterError as error:
            prefetched.stop()
            _log.info("no connection to the board: %s", error)
            await _reject(prefetched, error)


async def _reject(near: _PrefetchedStream, error: JumpstarterError) -> None:
    status = (
        error
        if isinstance(error, RpcError)
        else RpcError(StatusCode.__members__.get(error.status, StatusCode.UNAVAILABLE), str(error))
    )
    rejected = trio.Event()

    async def reject(_call: ServerCall[Any, Any]) -> None:
        rejected.set()
        raise RpcError(status.code, status.details)

    async def linger() -> None:
        await rejected.wait()
        await trio.sleep(REJECTION_LINGER_SECONDS)

    services = (ExporterServiceServicer(), RouterServiceServicer())
    with trio.move_on_after(REJECTION_SECONDS):
        await first_of(partial(serve_connection, near, services, interceptors=[reject]), linger)


class _PrefetchedStream(BorrowedStream):
    """A stream that is read before its data is needed, to notice when the peer closes it."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        super().__init__(stream)
        self._data = bytearray()
        self._reading = trio.CancelScope()
        self._stopped = trio.Event()

    async def read(self, gone: trio.CancelScope) -> None:
        """Buffer data until `stop`; cancel `gone` when the stream ends."""
        try:
            with self._reading:
                while len(self._data) < MAX_PREFETCHED_BYTES:
                    try:
                        data = await self._stream.receive_some(MAX_PREFETCHED_BYTES - len(self._data))
                    except trio.BrokenResourceError:
                        data = b""  # the same as the end
                    if not data:
                        gone.cancel()
                        return
                    self._data += data
        finally:
            self._stopped.set()

    def stop(self) -> None:
        """Stop buffering: from now on `receive_some` is used."""
        self._reading.cancel()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return the buffered data first, then read from the stream."""
        await self._stopped.wait()
        if not self._data:
            return bytes(await self._stream.receive_some(max_bytes))
        size = len(self._data) if max_bytes is None else max_bytes
        data = bytes(self._data[:size])
        del self._data[:size]
        return data
