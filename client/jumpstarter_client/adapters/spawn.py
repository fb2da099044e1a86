"""A driver's stream as a pexpect session."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import trio
from jumpstarter_proto.errors import JumpstarterError

from jumpstarter_client.adapters.splice import splice
from jumpstarter_client.base import DriverClient
from jumpstarter_client.blocking import collapse

if TYPE_CHECKING:
    from pexpect.fdpexpect import fdspawn

__all__ = ["PexpectAdapter", "socket_adapter"]


@asynccontextmanager
async def socket_adapter(client: DriverClient, method: str = "connect") -> AsyncIterator[socket.socket]:
    """A connected, blocking socket whose other end is the driver's stream, during the block."""
    ours, theirs = socket.socketpair()
    local = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    theirs.setblocking(True)
    try:
        with collapse():
            async with client.stream_async(method) as remote, trio.open_nursery() as nursery:
                nursery.start_soon(_splice_and_close, local, remote)
                yield theirs
                nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(local)
        theirs.close()


async def _splice_and_close(local: trio.SocketStream, remote: trio.abc.HalfCloseableStream) -> None:
    await splice(local, remote)
    # Whoever reads the other end must see that nothing more comes.
    await trio.aclose_forcefully(local)


@contextmanager
def PexpectAdapter(  # noqa: N802 - Jumpstarter's name
    *, client: DriverClient, method: str = "connect"
) -> Iterator[fdspawn[bytes]]:
    """A pexpect session on a driver's stream: `with PexpectAdapter(client=c) as session: session.expect(...)`.

    Raises:
        JumpstarterError: pexpect is not installed.
    """
    try:
        from pexpect.fdpexpect import fdspawn  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise JumpstarterError(
            "pexpect is not installed; install it with: pip install 'jumpstarter-sbc[pexpect]'"
        ) from None
    with client.bridge.context(socket_adapter(client, method)) as end:
        yield fdspawn(end)
