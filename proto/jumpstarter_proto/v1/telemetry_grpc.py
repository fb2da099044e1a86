"""Typed stubs and servicers of jumpstarter_proto/v1/telemetry.proto; written by proto/generate.py, not by hand."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from jumpstarter_proto.v1 import telemetry_pb2
from jumpstarter_proto.rpc import Caller, Cardinality, ClientCall, Metadata, Method, ServerCall, Servicer


TELEMETRY_SERVICE_PUSH_LOGS = Method(
    "/jumpstarter.v1.TelemetryService/PushLogs",
    Cardinality.UNARY_UNARY,
    telemetry_pb2.PushLogsRequest,
    telemetry_pb2.PushLogsResponse,
)


class TelemetryServiceStub:
    """Calls jumpstarter.v1.TelemetryService over a channel."""

    def __init__(self, channel: Caller) -> None:
        self._channel = channel

    async def PushLogs(
        self, request: telemetry_pb2.PushLogsRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> telemetry_pb2.PushLogsResponse:
        return await self._channel.unary(TELEMETRY_SERVICE_PUSH_LOGS, request, timeout=timeout, metadata=metadata)


class TelemetryServiceServicer(Servicer):
    """Handles jumpstarter.v1.TelemetryService; override what you serve."""

    async def PushLogs(self, request: telemetry_pb2.PushLogsRequest, call: ServerCall[telemetry_pb2.PushLogsRequest, telemetry_pb2.PushLogsResponse]) -> telemetry_pb2.PushLogsResponse:
        raise self.unimplemented("PushLogs")

    METHODS = (TELEMETRY_SERVICE_PUSH_LOGS,)
