"""Any driver tested end to end in one line: `with serve(MyDriver()) as client: ...`.

Both ends run in one process, with real gRPC over a socket pair between them. `serve` is for plain test
functions; its client is blocking, and the exporter runs in a background thread. `serve_async` is for `async
def` tests. `host` keeps what of a device outlives a session, for tests with several: `async with host(MyDriver) as
devices, serve_async(devices) as client: ...`.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import trio
from jumpstarter_client.base import DriverClient
from jumpstarter_client.blocking import PortalThread
from jumpstarter_client.tree import open_client
from jumpstarter_exporter.devices import Spec
from jumpstarter_exporter.devices.cores import keeping_open, managed_cores
from jumpstarter_exporter.devices.inventory import BoardDevices
from jumpstarter_exporter.devices.spec import parts_of
from jumpstarter_exporter.driver import Driver
from jumpstarter_exporter.session.session import Session
from jumpstarter_proto.rpc import Channel, open_channel
from jumpstarter_proto.tasks import collapsed

__all__ = ["host", "serve", "serve_async", "serve_channel"]


@asynccontextmanager
async def host(kind: type[Driver], **values: Any) -> AsyncIterator[BoardDevices]:
    """A device, with its parts, that outlives the sessions in the block, as it does in an exporter."""
    devices = BoardDevices("test", Spec(kind, values, parts_of(kind, values)))
    with collapsed():
        async with managed_cores(devices), trio.open_nursery() as nursery:
            nursery.start_soon(keeping_open, devices)
            yield devices
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def serve_channel(driver: Driver | BoardDevices) -> AsyncIterator[Channel]:
    """A session that offers `driver`, or a `host`'s, and a channel to it, for the stubs of gRPC services.

    Leaving the block ends the session, which closes the driver.
    """
    # A test's own exception leaves as itself, not in a group of one.
    with collapsed():
        async with Session(driver) as session, trio.open_nursery() as nursery:
            ours, theirs = (
                trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair()
            )
            nursery.start_soon(session.serve_connection, theirs)
            async with open_channel(ours) as channel:
                yield channel
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def serve_async(driver: Driver | BoardDevices) -> AsyncIterator[DriverClient]:
    """A session that offers `driver`, or a `host`'s, and a client of it.

    The client is of the class that the driver names, of the driver itself: there is no composite around it.
    Leaving the block ends the session, which closes the driver.
    """
    async with serve_channel(driver) as channel, open_client(channel) as client:
        yield client


@contextmanager
def serve(driver: Driver) -> Iterator[DriverClient]:
    """Like `serve_async`, for synchronous code: every method of the client blocks."""
    with PortalThread() as portal, portal.context(serve_async(driver)) as client:
        yield client
