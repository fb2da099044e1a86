"""A unix socket that leads to a leased board: what other processes of `jumpstarter shell` connect to.

Each connection has a tunnel of its own. When there is none to be had, each call on it is answered with the reason, so
that whatever client it is can tell its user.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.join import BrokenJoinError, join
from jumpstarter_proto.rpc import (
    RpcError,
    ServerCall,
    StatusCode,
    serve_connection,
    socket_folder,
    unix_listener,
)
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceServicer
from jumpstarter_proto.v1.router_grpc import RouterServiceServicer

__all__ = ["carrying"]

EARLY_BYTES = 64 * 1024
"""What a client may say before it has its tunnel."""
ASK_SECONDS = 30.0
LAST_WORDS_SECONDS = 0.5
"""A client that was refused may call once more at once; after that it has to connect again."""

_log = logging.getLogger(__name__)

Dial: TypeAlias = Callable[[], AbstractAsyncContextManager[trio.abc.HalfCloseableStream]]


@asynccontextmanager
async def carrying(dial: Dial) -> AsyncIterator[str]:
    """The socket's path, while the block lasts."""
    with socket_folder("jumpstarter-lease-") as folder:
        path = folder / "socket"

        async def carry(near: trio.SocketStream) -> None:
            await _carry(near, dial)

        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, carry, [unix_listener(path)])
            yield str(path)
            nursery.cancel_scope.cancel()


async def _carry(near: trio.abc.HalfCloseableStream, dial: Dial) -> None:
    early = _Early(near)
    async with near, trio.open_nursery() as nursery:
        nursery.start_soon(early.read, nursery.cancel_scope)
        try:
            async with dial() as far:
                early.stop()
                await join(early, far)
        except BrokenJoinError as error:
            # Whose calls were open on it learns that from the connection inside.
            _log.info("a connection to the board ended: %s", error)
        except JumpstarterError as error:
            early.stop()
            _log.info("no connection to the board: %s", error)
            await _refuse(early, error)


async def _refuse(near: _Early, error: JumpstarterError) -> None:
    status = (
        error
        if isinstance(error, RpcError)
        else RpcError(StatusCode.__members__.get(error.status, StatusCode.UNAVAILABLE), str(error))
    )
    told = trio.Event()

    async def refuse(_call: ServerCall[Any, Any]) -> None:
        told.set()
        raise RpcError(status.code, status.details)

    services = (ExporterServiceServicer(), RouterServiceServicer())
    with trio.move_on_after(ASK_SECONDS):
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                await serve_connection(near, services, interceptors=[refuse])
                nursery.cancel_scope.cancel()

            nursery.start_soon(serve)
            await told.wait()
            await trio.sleep(LAST_WORDS_SECONDS)
            nursery.cancel_scope.cancel()


class _Early(trio.abc.HalfCloseableStream):
    """A stream that is read while nobody wants its data yet, so that its end is noticed."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._stream = stream
        self._data = bytearray()
        self._reading = trio.CancelScope()
        self._stopped = trio.Event()

    async def read(self, gone: trio.CancelScope) -> None:
        """Keep what comes until `stop`; cancel `gone` at its end."""
        try:
            with self._reading:
                while len(self._data) < EARLY_BYTES:
                    try:
                        data = await self._stream.receive_some(EARLY_BYTES - len(self._data))
                    except trio.BrokenResourceError:
                        data = b""  # its end all the same
                    if not data:
                        gone.cancel()
                        return
                    self._data += data
        finally:
            self._stopped.set()

    def stop(self) -> None:
        """From now on its data is wanted."""
        self._reading.cancel()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What came early, then the rest."""
        await self._stopped.wait()
        if not self._data:
            return bytes(await self._stream.receive_some(max_bytes))
        size = len(self._data) if max_bytes is None else max_bytes
        data = bytes(self._data[:size])
        del self._data[:size]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As the stream."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """As the stream."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """As the stream."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Leave the stream to whoever opened it, who closes it next."""
        await trio.lowlevel.checkpoint()
