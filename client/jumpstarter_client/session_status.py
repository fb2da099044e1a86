"""The status of the exporter's session: wait until it is ready for commands, and end it."""

from __future__ import annotations

from collections.abc import Callable

import trio
from jumpstarter_proto.rpc import Caller, RpcError, StatusCode
from jumpstarter_proto.v1 import common_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub
from jumpstarter_proto.v1.jumpstarter_pb2 import EndSessionRequest, GetStatusRequest, GetStatusResponse

from jumpstarter_client.errors import ConnectError
from jumpstarter_client.transport import ConnectionLostError, ReconnectingChannel

__all__ = ["request_end", "wait_ready"]

READY_SECONDS = 300.0
ANSWER_SECONDS = 30.0
"""Jumpstarter's own exporters answer only after their beforeLease hook, and a connection may be lost silently."""
POLL_SECONDS = 0.1


async def wait_ready(
    channel: Caller,
    timeout: float = READY_SECONDS,
    *,
    waiting: Callable[[GetStatusResponse], None] = lambda _: None,
) -> GetStatusResponse | None:
    """Wait until the session is ready for commands, and return its status; None from exporters before 0.8.

    `waiting` is called with each status until then.

    Raises:
        ConnectError: the beforeLease hook failed, or did not end within `timeout` seconds.
        RpcError: there is no connection, or it was lost and the channel does not reconnect.
    """
    exporter = ExporterServiceStub(channel)
    deadline = trio.current_time() + timeout
    last = "no answer"
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
                    "check the output of its hook, or lease another board"
                )
            last = f"{name}: {report.message}"
            waiting(report)
        if trio.current_time() > deadline:
            raise ConnectError(
                f"the board was not ready within {timeout:.0f} s ({last}); check the exporter's log"
            )
        await trio.sleep(POLL_SECONDS)


async def request_end(channel: Caller) -> bool:
    """Ask the exporter to end the session. Returns False if there is no lease, or the exporter is older than 0.8.

    A repeated request does no harm.

    Raises:
        RpcError: the exporter did not answer, or rejected the request.
    """
    try:
        return (await ExporterServiceStub(channel).EndSession(EndSessionRequest())).success
    except RpcError as error:
        if error.code is StatusCode.UNIMPLEMENTED:
            return False
        raise
