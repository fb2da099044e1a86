"""One connection to an exporter, shared by the driver clients of its tree."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field

import trio
from jumpstarter_proto.rpc import Caller
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub
from jumpstarter_proto.v1.router_grpc import RouterServiceStub

from jumpstarter_client.blocking import Bridge
from jumpstarter_client.transport import ReconnectingChannel

__all__ = ["Connection"]


@dataclass(eq=False)
class Connection:
    """What every client of one tree needs."""

    channel: Caller
    bridge: Bridge
    exporter: ExporterServiceStub = field(init=False)
    router: RouterServiceStub = field(init=False)
    stack: ExitStack = field(default_factory=ExitStack)
    """Closed with the connection: what blocking code keeps open without a block of its own."""

    following: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Around what keeps the tree as the exporter's is."""

    def __post_init__(self) -> None:
        self.exporter = ExporterServiceStub(self.channel)
        self.router = RouterServiceStub(self.channel)

    async def wait_connected(self) -> None:
        """Wait until a call can be made. What a call needs of the tree, such as a UUID, counts from then on.

        Raises:
            RpcError: there is no connection, and why.
        """
        if isinstance(self.channel, ReconnectingChannel):
            await self.channel.wait_connected()
