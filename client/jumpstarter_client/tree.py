"""From a connected channel to the tree of driver clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio
from google.protobuf import empty_pb2
from jumpstarter_proto.rpc import Caller
from jumpstarter_proto.v1 import jumpstarter_pb2

from jumpstarter_client.base import DriverClient
from jumpstarter_client.blocking import Bridge
from jumpstarter_client.connection import Connection
from jumpstarter_client.errors import ConnectError
from jumpstarter_client.lasting import LastingChannel
from jumpstarter_client.node import NAME, Allowed, Node

__all__ = ["build", "open_client"]

REPORT_SECONDS = 30.0
FOLLOW_AFTER_SECONDS = 1.0
"""A command that is over by then has no use for news of the devices."""
MAX_DEVICES = 4096
MAX_DEPTH = 32
MAX_NAME_LENGTH = 255
"""Of what an exporter reports; a path that is deeper, or longer, is nobody's lab."""


@asynccontextmanager
async def open_client(
    channel: Caller, *, allowed: Allowed | None = None, timeout: float = REPORT_SECONDS
) -> AsyncIterator[DriverClient]:
    """The root of an exporter's devices. Its blocking methods are for other threads while this block lasts.

    On a `LastingChannel` the tree outlives a restart of its exporter.

    `allowed` says which foreign client classes may be imported; the environment does when it is left out.

    Raises:
        RpcError: the exporter cannot be asked for its devices.
        ConnectError: what it reports is no tree.
    """
    async with Bridge.open() as bridge:
        connection = Connection(channel, bridge)
        report = await connection.exporter.GetReport(empty_pb2.Empty(), timeout=timeout)
        allowed = allowed or Allowed.from_environment()
        root = build(report, connection, allowed)
        if isinstance(channel, LastingChannel):
            from jumpstarter_client.renewal import renew  # noqa: PLC0415 - it imports this module

            channel.renew = partial(renew, root, connection, allowed)
            if root.state:  # an exporter of ours
                channel.run_beside(partial(_follow, channel, root, connection, allowed))
        try:
            yield root.client
        finally:
            # What blocking code left open may need this loop to close.
            connection.following.cancel()
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(connection.stack.close)


async def _follow(channel: LastingChannel, root: Node, connection: Connection, allowed: Allowed) -> None:
    with connection.following:
        await trio.sleep(FOLLOW_AFTER_SECONDS)
        from jumpstarter_client.following import follow  # noqa: PLC0415 - it imports this module, and most end before

        await follow(channel, root, connection, allowed)


def build(report: jumpstarter_pb2.GetReportResponse, connection: Connection, allowed: Allowed) -> Node:
    """The root of a report. One UUID may stand in several places, so parents are found by position.

    Raises:
        ConnectError: a parent or a name is missing, there is not exactly one root, or there is too much.
    """
    if len(report.reports) > MAX_DEVICES:
        raise ConnectError(f"the exporter reports more than {MAX_DEVICES} devices; check its configuration")
    last: dict[str, Node] = {}
    depths: dict[str, int] = {}
    root: Node | None = None
    for entry in report.reports:
        name = entry.labels.get(NAME, "")
        if not entry.parent_uuid:
            if root is not None:
                raise ConnectError("the exporter reports two roots; update the exporter")
            root = Node(entry, None, connection, allowed, report.labels.get(NAME, ""))
            last[entry.uuid] = root
            continue
        parent = last.get(entry.parent_uuid)
        if parent is None or not name:
            missing = "a parent" if parent is None else "a name"
            raise ConnectError(f"the exporter reports a device without {missing}; update the exporter")
        depths[entry.uuid] = depth = depths.get(entry.parent_uuid, 0) + 1
        if depth > MAX_DEPTH or len(name) > MAX_NAME_LENGTH:
            raise ConnectError(
                f"the exporter reports a device deeper than {MAX_DEPTH} levels, or with a name of more than "
                f"{MAX_NAME_LENGTH} characters; check its configuration"
            )
        last[entry.uuid] = parent.children[name] = Node(entry, parent, connection, allowed, name)
    if root is None:
        raise ConnectError("the exporter reports no devices at all; check its configuration")
    return root
