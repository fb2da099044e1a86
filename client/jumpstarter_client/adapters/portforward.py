"""Forwards a local TCP port or unix socket to a driver: each connection opens a stream."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import trio
from jumpstarter_proto.byte_streams.join import BrokenJoinError, closing, join
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.rpc import socket_folder, tcp_listeners, unix_listener
from jumpstarter_proto.tasks import collapsed

from jumpstarter_client.base import DriverClient
from jumpstarter_client.errors import DriverError

__all__ = ["TcpPortforwardAdapter", "UnixPortforwardAdapter", "tcp_portforward", "unix_portforward"]

_log = logging.getLogger(__name__)


class PortforwardError(JumpstarterError):
    """Listening on the local port or socket failed."""

    exit_code = ExitCode.FAILED


@asynccontextmanager
async def tcp_portforward(
    client: DriverClient, method: str = "connect", local_host: str = "127.0.0.1", local_port: int = 0
) -> AsyncIterator[tuple[str, int]]:
    """Listen during the block and yield the address. Port 0 means any free port.

    Raises:
        PortforwardError: the address is in use, or not on this machine.
    """
    try:
        listeners = await tcp_listeners(local_host, local_port)
    except OSError as error:
        raise PortforwardError(
            f"cannot listen on {local_host}:{local_port}: {error.strerror or error}; choose another port"
        ) from error
    # A name may have several addresses: use the first, which is the one that is returned.
    first, *others = listeners
    for other in others:
        await other.aclose()
    assert isinstance(first, trio.SocketListener)
    host, port, *_ = first.socket.getsockname()
    async with _forward(client, method, first):
        yield host, port


@asynccontextmanager
async def unix_portforward(
    client: DriverClient, method: str = "connect", path: str | os.PathLike[str] | None = None
) -> AsyncIterator[Path]:
    """Listen on a unix socket during the block and yield its path, by default in a private directory."""
    with socket_folder("jumpstarter-") as folder:
        bound = Path(path) if path is not None else folder / "socket"
        try:
            listener = unix_listener(bound)
        except OSError as error:
            raise PortforwardError(
                f"cannot listen on {bound}: {error.strerror or error}; choose another path"
            ) from error
        try:
            async with _forward(client, method, listener):
                yield bound
        finally:
            bound.unlink(missing_ok=True)


@asynccontextmanager
async def _forward(client: DriverClient, method: str, listener: trio.SocketListener) -> AsyncIterator[None]:
    async def serve(local: trio.SocketStream) -> None:
        # The local program only sees a reset connection; the reason is logged.
        with suppress(BrokenJoinError, DriverError):
            async with closing(local):
                try:
                    async with client.stream_async(method) as remote:
                        await _join(local, remote, client.path)
                except DriverError as error:
                    _log.warning("%s: %s", client.path, error)
                    raise

    with collapsed():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, serve, [listener])
            yield
            nursery.cancel_scope.cancel()


async def _join(local: trio.SocketStream, remote: trio.abc.HalfCloseableStream, path: str) -> None:
    try:
        await join(local, remote)
    except BrokenJoinError as error:
        if error.side is local:
            _log.info("%s: the local program closed its connection: %s", path, error)
        else:
            _log.warning("%s: a connection was reset: %s", path, error)
        raise


@contextmanager
def TcpPortforwardAdapter(  # noqa: N802 - Jumpstarter's name
    *, client: DriverClient, method: str = "connect", local_host: str = "127.0.0.1", local_port: int = 0
) -> Iterator[tuple[str, int]]:
    """`tcp_portforward` for plain code: `with TcpPortforwardAdapter(client=c) as (host, port): ...`."""
    with client.portal.context(tcp_portforward(client, method, local_host, local_port)) as address:
        yield address


@contextmanager
def UnixPortforwardAdapter(  # noqa: N802 - Jumpstarter's name
    *, client: DriverClient, method: str = "connect", path: str | os.PathLike[str] | None = None
) -> Iterator[Path]:
    """`unix_portforward` for plain code: `with UnixPortforwardAdapter(client=c) as path: ...`."""
    with client.portal.context(unix_portforward(client, method, path)) as bound:
        yield bound
