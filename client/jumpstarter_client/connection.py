"""One connection to an exporter, shared by the driver clients of its tree."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field

import trio
from jumpstarter_proto.rpc import Caller
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub
from jumpstarter_proto.v1.router_grpc import RouterServiceStub

from jumpstarter_client.blocking import BlockingPortal
from jumpstarter_client.transport import ReconnectingChannel

__all__ = ["ExporterConnection"]


@dataclass(eq=False)
class ExporterConnection:
    """What all driver clients of one tree share."""

    channel: Caller
    portal: BlockingPortal
    exporter: ExporterServiceStub = field(init=False)
    router: RouterServiceStub = field(init=False)
    stack: ExitStack = field(default_factory=ExitStack)
    """Closed with the connection; for contexts that blocking code enters without a block."""

    follow_scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    """The scope of the task that updates the tree."""

    def __post_init__(self) -> None:
        self.exporter = ExporterServiceStub(self.channel)
        self.router = RouterServiceStub(self.channel)

    async def wait_connected(self) -> None:
        """Wait until a call can be made. UUIDs of the tree are valid from then on.

        Raises:
            RpcError: why there is no connection.
        """
        if isinstance(self.channel, ReconnectingChannel):
            await self.channel.wait_connected()
