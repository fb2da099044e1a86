"""The stream of a driver as a socket, and as a pexpect session."""

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
    """Yield a connected, blocking socket whose other end is the stream of the driver.

    The end of the block waits at most `LEAVE_SECONDS` until the device has received the written data.

    Raises:
        DriverError: the device may not have received all data.
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
                    await joined.ended.wait()
                if joined.lost is not None:
                    raise DriverError(
                        f"{client.path} may not have received all data: {joined.lost}; check the device and write the "
                        "data again",
                        code=StatusCode.UNAVAILABLE,
                    )
    finally:
        await trio.aclose_forcefully(local)
        theirs.close()


class _Joined:
    """Joins a local socket and a driver's stream until the socket is closed."""

    def __init__(self, local: trio.SocketStream, remote: trio.abc.HalfCloseableStream) -> None:
        self._local = local
        self._remote = remote
        self.ended = trio.Event()
        self.lost: str | None = "the time limit expired"
        """Why written data may not have arrived; None if it has."""

    async def run(self) -> None:
        try:
            await join(self._local, self._remote, ends_with=[self._local], leave_seconds=0)
            self.lost = None
        except BrokenJoinError as error:
            self.lost = str(error)
        finally:
            # The reader of the other end must see the end.
            await trio.aclose_forcefully(self._local)
            self.ended.set()


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
    with client.portal.context(socket_adapter(client, method)) as end:
        yield fdspawn(end)
