"""A driver's stream as a pexpect session."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

import trio
from jumpstarter_proto.byte_streams.join import BrokenJoinError, join
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.rpc import StatusCode
from jumpstarter_proto.tasks import collapsed

from jumpstarter_client.base import LEAVE_SECONDS, DriverClient
from jumpstarter_client.errors import DriverError

if TYPE_CHECKING:
    from pexpect.fdpexpect import fdspawn

__all__ = ["PexpectAdapter", "socket_adapter"]


@asynccontextmanager
async def socket_adapter(client: DriverClient, method: str = "connect") -> AsyncIterator[socket.socket]:
    """A connected, blocking socket whose other end is the driver's stream, during the block.

    Leaving the block waits at most `LEAVE_SECONDS` until the device has taken what was written.

    Raises:
        DriverError: it has not.
    """
    ours, theirs = socket.socketpair()
    local = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    theirs.setblocking(True)
    try:
        with collapsed():
            async with client.stream_async(method) as remote, trio.open_nursery() as nursery:
                joined = _Joined(local, remote)
                nursery.start_soon(joined.run)
                yield theirs
                with suppress(OSError):  # it was closed
                    theirs.shutdown(socket.SHUT_WR)
                theirs.close()
                with trio.move_on_after(LEAVE_SECONDS):
                    await joined.over.wait()
                if joined.lost is not None:
                    raise DriverError(
                        f"{client.path} may not have got all that was written: {joined.lost}; look at the "
                        "device, and write it again",
                        code=StatusCode.UNAVAILABLE,
                    )
    finally:
        await trio.aclose_forcefully(local)
        theirs.close()


class _Joined:
    """A local socket and a driver's stream, until whoever has the socket's other end is done."""

    def __init__(self, local: trio.SocketStream, remote: trio.abc.HalfCloseableStream) -> None:
        self._local = local
        self._remote = remote
        self.over = trio.Event()
        self.lost: str | None = "it was not taken in time"
        """Why what was written may not have arrived."""

    async def run(self) -> None:
        try:
            await join(self._local, self._remote, ends_with=[self._local], leave_seconds=0)
            self.lost = None
        except BrokenJoinError as error:
            self.lost = str(error)
        finally:
            # Whoever reads the other end must see that nothing more comes.
            await trio.aclose_forcefully(self._local)
            self.over.set()


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
