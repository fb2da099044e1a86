"""After a new connection: is there still the same session at the other end, and if not, which devices has the new one.

A driver client knows its device by the UUID of the session that it was made for. An exporter that was restarted has
the same devices under new UUIDs; they are found again by their paths.
"""

from __future__ import annotations

import logging

from google.protobuf import empty_pb2
from jumpstarter_proto.rpc import Channel
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub

from jumpstarter_client.connection import Connection
from jumpstarter_client.leasing.readiness import until_usable
from jumpstarter_client.node import Allowed, Node
from jumpstarter_client.tree import build

__all__ = ["renew"]

ANSWER_SECONDS = 25.0
"""More than a socket of a lease takes for its tunnel."""

_log = logging.getLogger(__name__)


async def renew(root: Node, connection: Connection, allowed: Allowed, fresh: Channel) -> None:
    """Make the tree below `root` that of the session at the other end of `fresh`.

    Raises:
        RpcError: it does not answer.
        ConnectError: it is a new one, and its board cannot be used.
    """
    exporter = ExporterServiceStub(fresh)
    report = await exporter.GetReport(empty_pb2.Empty(), timeout=ANSWER_SECONDS)
    if root.known_as(report.reports[0].uuid if report.reports else ""):
        return
    await until_usable(fresh)
    # Once more: its hook may have changed what there is.
    report = await exporter.GetReport(empty_pb2.Empty(), timeout=ANSWER_SECONDS)
    root.become(build(report, connection, allowed))
    _log.warning(
        "the exporter was restarted, and has closed and opened the board's devices; check that it is as you need it"
    )
