"""An exporter in the test's own process: a folder of configurations, and a daemon that serves them."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio
from jumpstarter_exporter.config.folder import BoardFile, boards_of, read_files
from jumpstarter_exporter.serve import host as daemon
from jumpstarter_exporter.serve.discovery import Discovery
from jumpstarter_exporter.serve.network import Network
from jumpstarter_proto.lab.v1 import host_pb2
from jumpstarter_proto.lab.v1.host_grpc import HostServiceStub
from jumpstarter_proto.rpc import Channel, RpcError, connect_unix, open_channel

__all__ = ["POWER", "ServedHost", "channel", "listed", "reload"]

POWER = "export: {power: {type: power.MockPower}}"
START_SECONDS = 20.0


class ServedHost:
    """Where a host's configurations and its socket are."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "config" / "exporters"
        self.folder.mkdir(parents=True)
        self.door = home / "run" / "exporter.sock"
        self.door.parent.mkdir()

    def write(self, name: str, text: str = POWER) -> Path:
        """A board's file."""
        path = self.folder / f"{name}.yaml"
        path.write_text(text)
        return path

    def read(self, before: Mapping[str, BoardFile]) -> Mapping[str, BoardFile]:
        """The files, as a daemon reads them."""
        return boards_of(read_files([self.folder]), before)

    async def serve(
        self, *, leads: bool = False, discovery: Discovery | None = None, network: Network | None = None
    ) -> None:
        """The daemon, to its end."""
        await daemon.run(self.read({}), self.door, network, self.read, leads=leads, discovery=discovery)

    @asynccontextmanager
    async def running(
        self, *, leads: bool = False, discovery: Discovery | None = None, network: Network | None = None
    ) -> AsyncIterator[Channel]:
        """A connection to the door of the daemon, which ends by a signal after that."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(self.serve, leads=leads, discovery=discovery, network=network))
            with trio.fail_after(START_SECONDS):
                while True:
                    try:
                        async with channel(self.door):
                            break
                    except RpcError:
                        await trio.sleep(0.01)  # a socket that is not there yet has no event
                async with channel(self.door) as door:
                    yield door
            signal.raise_signal(signal.SIGTERM)


@asynccontextmanager
async def channel(path: Path) -> AsyncIterator[Channel]:
    """A connection to a socket. Raises RpcError if nothing listens there."""
    async with open_channel(await connect_unix(path)) as channel:
        yield channel


async def reload(door: Channel) -> dict[str, str]:
    """What is said of each board."""
    done = await HostServiceStub(door).Reload(host_pb2.ReloadRequest())
    return {one.name: one.text for one in done.boards}


async def listed(door: Channel) -> dict[str, host_pb2.Board]:
    """All boards, by name."""
    found = await HostServiceStub(door).ListBoards(host_pb2.ListBoardsRequest())
    return {one.name: one for one in found.boards}
