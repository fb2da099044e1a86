"""Keeps a tree as its exporter's devices are: what comes, goes or changes its state there does so here.

Exporters of ours tell (`lab.v1.DevicesService`); with others a tree stays as it was when it was opened.
"""

from __future__ import annotations

import logging

import trio
from jumpstarter_proto.lab.v1.devices_grpc import DevicesServiceStub
from jumpstarter_proto.lab.v1.devices_pb2 import WatchReportRequest
from jumpstarter_proto.rpc import Caller, RpcError, StatusCode

from jumpstarter_client.connection import Connection
from jumpstarter_client.errors import ConnectError
from jumpstarter_client.lasting import LastingChannel
from jumpstarter_client.node import Allowed, Node
from jumpstarter_client.tree import build

__all__ = ["follow"]

RETRY_SECONDS = 1.0

_log = logging.getLogger(__name__)


async def follow(channel: LastingChannel, root: Node, connection: Connection, allowed: Allowed) -> None:
    """Until there is no connection any more, or the exporter has no such service. It dials for no connection itself."""
    while (connected := await channel.connected()) is not None:
        try:
            await _follow(connected, root, connection, allowed)
        except RpcError as error:
            if error.code is not StatusCode.UNAVAILABLE:
                _log.debug("the exporter does not tell of changes: %s", error)
                return
        except ConnectError as error:
            _log.warning("the exporter's devices have changed, and cannot be followed: %s", error)
            return
        await trio.sleep(RETRY_SECONDS)


async def _follow(channel: Caller, root: Node, connection: Connection, allowed: Allowed) -> None:
    async with DevicesServiceStub(channel).WatchReport(WatchReportRequest()) as reports:
        async for report in reports:
            # Another session is not a change of this one; it is found with the next connection.
            if report.reports and root.known_as(report.reports[0].uuid):
                root.become(build(report, connection, allowed))
