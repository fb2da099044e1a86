"""Any driver tested end to end in one line: `with serve(MyDriver()) as client: ...`.

Both ends run in one process, with real gRPC over a socket pair between them. `serve` is for plain test
functions; its client is blocking, and the exporter runs in a background thread. `serve_async` is for `async
def` tests.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio
from jumpstarter_client.base import DriverClient
from jumpstarter_client.blocking import Portal, collapse
from jumpstarter_client.tree import open_client
from jumpstarter_exporter.driver import Driver
from jumpstarter_exporter.session import Session
from jumpstarter_proto.rpc import open_channel

__all__ = ["serve", "serve_async"]


@asynccontextmanager
async def serve_async(driver: Driver) -> AsyncIterator[DriverClient]:
    """A session that offers `driver`, and a client of it.

    The client is of the class that the driver names, of the driver itself: there is no composite around it.
    Leaving the block ends the session, which closes the driver.
    """
    # A test's own exception leaves as itself, not in a group of one.
    with collapse():
        async with Session(driver) as session, trio.open_nursery() as nursery:
            ours, theirs = (
                trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair()
            )
            nursery.start_soon(session.serve_connection, theirs)
            async with open_channel(ours) as channel, open_client(channel) as client:
                yield client
            nursery.cancel_scope.cancel()


@contextmanager
def serve(driver: Driver) -> Iterator[DriverClient]:
    """The same for plain code: every method of the client blocks."""
    with Portal() as portal, portal.context(serve_async(driver)) as client:
        yield client
