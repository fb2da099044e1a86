"""An exporter inside another program: for one command, when no daemon runs.

The client loads this module by name. It lives in the caller's own trio loop and ends with the caller's block.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from jumpstarter_proto.rpc import socket_folder, unix_listener

from jumpstarter_exporter import config as configuration
from jumpstarter_exporter.boards.claim import shared_claim
from jumpstarter_exporter.config.board_devices import add_board
from jumpstarter_exporter.config.hosted import learn_hosted
from jumpstarter_exporter.devices.cores import managed_cores
from jumpstarter_exporter.devices.inventory import Inventory
from jumpstarter_exporter.session.session import Session

__all__ = ["Embedded", "open_exporter"]


class Embedded:
    """A running session, and how to connect to it."""

    def __init__(self, session: Session, nursery: trio.Nursery) -> None:
        self.session = session
        self._nursery = nursery

    async def connect(self) -> trio.abc.Stream:
        """The client's end of a new connection."""
        ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
        self._nursery.start_soon(self.session.serve_connection, ours)
        await trio.lowlevel.checkpoint()
        return theirs

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[str]:
        """For other processes: the path of a unix socket that only this user can use, during the block."""
        with socket_folder("jumpstarter-") as folder:
            path = str(folder / "exporter.sock")
            listener = unix_listener(path)
            async with trio.open_nursery() as nursery:
                await nursery.start(self.session.server.serve, [listener])
                yield path
                nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_exporter(config: str | Path | None = None) -> AsyncIterator[Embedded]:
    """A session with the devices of a configuration: a file, a name, or the only one that there is.

    Raises:
        ConfigError: the configuration makes no sense.
        ConfigNotFoundError: there is none, or it is not clear which one is meant.
        BoardTakenError: a daemon of this host serves the board.
    """
    loaded = configuration.load(configuration.locate_config(config), lenient=True)
    with shared_claim(loaded.file):
        async with _open(loaded) as embedded:
            yield embedded


@asynccontextmanager
async def _open(loaded: configuration.ExporterConfig) -> AsyncIterator[Embedded]:
    await learn_hosted(loaded)
    devices = add_board(Inventory(), loaded)
    settings = loaded.settings
    async with (
        managed_cores(devices),
        Session(devices, name=loaded.board_name, motd=settings.motd) as session,
        trio.open_nursery() as nursery,
    ):
        yield Embedded(session, nursery)
        nursery.cancel_scope.cancel()
