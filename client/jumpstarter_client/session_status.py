"""Waiting until a leased board may be used: its beforeLease hook prepares it first."""

from __future__ import annotations

from collections.abc import Callable

import trio
from jumpstarter_proto.rpc import Caller, RpcError, StatusCode
from jumpstarter_proto.v1 import common_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub
from jumpstarter_proto.v1.jumpstarter_pb2 import GetStatusRequest, GetStatusResponse

from jumpstarter_client.errors import ConnectError
from jumpstarter_client.transport import ConnectionLostError, ReconnectingChannel

__all__ = ["wait_ready"]

READY_SECONDS = 300.0
ANSWER_SECONDS = 30.0
"""Jumpstarter's exporters answer only after their hook; and a connection may have been lost on its way to them."""
INTERVAL = 0.1


async def wait_ready(
    channel: Caller,
    timeout: float = READY_SECONDS,
    *,
    waiting: Callable[[GetStatusResponse], None] = lambda _: None,
) -> GetStatusResponse | None:
    """Wait for the session at the other end to be ready for commands; its status then, None from one before 0.8.

    `waiting` gets each status until then.

    Raises:
        ConnectError: its hook failed, or takes longer than `timeout` seconds.
        RpcError: there is no connection, or it broke and is not one that comes back.
    """
    exporter = ExporterServiceStub(channel)
    deadline = trio.current_time() + timeout
    last = "it does not answer"
    while True:
        try:
            report = await exporter.GetStatus(GetStatusRequest(), timeout=ANSWER_SECONDS)
        except ConnectionLostError as error:
            last = error.details
        except RpcError as error:
            if error.code is StatusCode.UNIMPLEMENTED:  # an exporter before 0.8 has no hooks
                return None
            if error.code is not StatusCode.DEADLINE_EXCEEDED or not isinstance(channel, ReconnectingChannel):
                raise
            channel.disconnect()
        else:
            if report.status == common_pb2.EXPORTER_STATUS_LEASE_READY:
                return report
            name = common_pb2.ExporterStatus.Name(report.status).removeprefix("EXPORTER_STATUS_")
            if name.endswith("FAILED") or name == "OFFLINE":
                raise ConnectError(
                    f"the board is not ready for its lease: {report.message or name}; "
                    "look at what its hook printed, or lease another board"
                )
            last = f"{name}: {report.message}"
            waiting(report)
        if trio.current_time() > deadline:
            raise ConnectError(
                f"the board was not ready within {timeout:.0f} s ({last}); look at its exporter's log"
            )
        await trio.sleep(INTERVAL)
