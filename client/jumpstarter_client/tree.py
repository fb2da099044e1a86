"""From a connected channel to the tree of driver clients, which follows the exporter's devices from then on.

A driver client knows its device by a UUID that is valid for one session. An exporter that was restarted has the same
devices under new UUIDs: after each new connection the nodes are matched to the new report by their paths. Exporters
of ours also report changes while connected (`lab.v1.DevicesService`); with others the tree stays as it was opened.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio
from google.protobuf import empty_pb2
from jumpstarter_proto.rpc import Caller, Channel, Metadata, RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub

from jumpstarter_client.base import DriverClient
from jumpstarter_client.blocking import BlockingPortal
from jumpstarter_client.connection import ExporterConnection
from jumpstarter_client.errors import ConnectError
from jumpstarter_client.node import NAME, Allowed, Node
from jumpstarter_client.session_status import wait_ready
from jumpstarter_client.transport import ReconnectingChannel

__all__ = ["build_tree", "follow_changes", "open_client", "resync"]

REPORT_SECONDS = 30.0
RESYNC_REPORT_SECONDS = 25.0
"""More than the socket of a lease takes to open its tunnel."""
FOLLOW_AFTER_SECONDS = 1.0
"""Most commands have ended by then and need no updates of the tree."""
FOLLOW_RETRY_SECONDS = 1.0
MAX_DEVICES = 4096
MAX_DEPTH = 32
MAX_NAME_LENGTH = 255
"""Limits for what an exporter reports; no real lab is larger or deeper."""

_log = logging.getLogger(__name__)


@asynccontextmanager
async def open_client(
    channel: Caller,
    *,
    allowed: Allowed | None = None,
    timeout: float = REPORT_SECONDS,
    metadata: Metadata = (),
) -> AsyncIterator[DriverClient]:
    """Ask the exporter for its devices and yield the root. Its blocking methods work in other threads during the block.

    On a `ReconnectingChannel` the tree survives a restart of the exporter.

    `allowed` says which client classes of other packages may be imported; the default comes from the environment.
    `metadata` is sent with the request for the devices.

    Raises:
        RpcError: the exporter did not answer with its devices.
        ConnectError: the report is not a valid tree.
    """
    async with BlockingPortal.open() as portal:
        connection = ExporterConnection(channel, portal)
        report = await connection.exporter.GetReport(empty_pb2.Empty(), timeout=timeout, metadata=metadata)
        allowed = allowed or Allowed.from_environment()
        root = build_tree(report, connection, allowed)
        if isinstance(channel, ReconnectingChannel):
            channel.resync = partial(resync, root, connection, allowed)
            if root.state:  # only exporters of ours report states, and changes
                channel.start_task(partial(_follow_later, channel, root, connection, allowed))
        try:
            yield root.client
        finally:
            # Streams and contexts that blocking code left open may need this loop to close.
            connection.follow_scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(connection.stack.close)


def build_tree(
    report: jumpstarter_pb2.GetReportResponse, connection: ExporterConnection, allowed: Allowed
) -> Node:
    """Return the root of a report. One UUID may appear in several places, so parents are found by position.

    Raises:
        ConnectError: a parent or a name is missing, there is not exactly one root, or the report exceeds a limit.
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


async def resync(root: Node, connection: ExporterConnection, allowed: Allowed, fresh: Channel) -> None:
    """Update the tree below `root` if the session behind the new connection `fresh` is another one.

    Raises:
        RpcError: the exporter did not answer.
        ConnectError: the session is new and its board is not usable.
    """
    exporter = ExporterServiceStub(fresh)
    report = await exporter.GetReport(empty_pb2.Empty(), timeout=RESYNC_REPORT_SECONDS)
    if root.has_uuid(report.reports[0].uuid if report.reports else ""):
        return
    await wait_ready(fresh)
    # Once more: the beforeLease hook may have changed the devices.
    report = await exporter.GetReport(empty_pb2.Empty(), timeout=RESYNC_REPORT_SECONDS)
    root.update(build_tree(report, connection, allowed))
    _log.warning(
        "the exporter was restarted and has reopened the board's devices; check that the board is in the state you need"
    )


async def _follow_later(
    channel: ReconnectingChannel, root: Node, connection: ExporterConnection, allowed: Allowed
) -> None:
    with connection.follow_scope:
        await trio.sleep(FOLLOW_AFTER_SECONDS)
        await follow_changes(channel, root, connection, allowed)


async def follow_changes(
    channel: ReconnectingChannel, root: Node, connection: ExporterConnection, allowed: Allowed
) -> None:
    """Update the tree from each report that the exporter sends. Never connects by itself.

    Returns when the channel is shut down or the exporter has no such service. Cancelling it leaves the tree as the last
    report had it.
    """
    while (connected := await channel.next_connection()) is not None:
        try:
            await _follow_connection(connected, root, connection, allowed)
        except RpcError as error:
            if error.code is not StatusCode.UNAVAILABLE:
                _log.debug("the exporter does not report changes: %s", error)
                return
        except ConnectError as error:
            _log.warning("the exporter's devices have changed, but the new report is not usable: %s", error)
            return
        await trio.sleep(FOLLOW_RETRY_SECONDS)


async def _follow_connection(
    channel: Caller, root: Node, connection: ExporterConnection, allowed: Allowed
) -> None:
    # Most commands end before this; they do not load these modules.
    from jumpstarter_proto.lab.v1.devices_grpc import DevicesServiceStub  # noqa: PLC0415
    from jumpstarter_proto.lab.v1.devices_pb2 import WatchReportRequest  # noqa: PLC0415

    async with DevicesServiceStub(channel).WatchReport(WatchReportRequest()) as reports:
        async for report in reports:
            # A new session is handled by `resync` with the next connection.
            if report.reports and root.has_uuid(report.reports[0].uuid):
                root.update(build_tree(report, connection, allowed))
