"""Typed stubs and servicers of jumpstarter_proto/lab/v1/devices.proto; written by proto/generate.py, not by hand."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from jumpstarter_proto.lab.v1 import devices_pb2
from jumpstarter_proto.v1 import jumpstarter_pb2
from jumpstarter_proto.rpc import Caller, Cardinality, ClientCall, Metadata, Method, ServerCall, Servicer


DEVICES_SERVICE_WATCH_REPORT = Method(
    "/jumpstarter_sbc.lab.v1.DevicesService/WatchReport",
    Cardinality.UNARY_STREAM,
    devices_pb2.WatchReportRequest,
    jumpstarter_pb2.GetReportResponse,
)


class DevicesServiceStub:
    """Calls jumpstarter_sbc.lab.v1.DevicesService over a channel."""

    def __init__(self, channel: Caller) -> None:
        self._channel = channel

    def WatchReport(
        self, request: devices_pb2.WatchReportRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AbstractAsyncContextManager[ClientCall[devices_pb2.WatchReportRequest, jumpstarter_pb2.GetReportResponse]]:
        return self._channel.server_stream(DEVICES_SERVICE_WATCH_REPORT, request, timeout=timeout, metadata=metadata)


class DevicesServiceServicer(Servicer):
    """Handles jumpstarter_sbc.lab.v1.DevicesService; override what you serve."""

    async def WatchReport(self, request: devices_pb2.WatchReportRequest, call: ServerCall[devices_pb2.WatchReportRequest, jumpstarter_pb2.GetReportResponse]) -> None:
        raise self.unimplemented("WatchReport")

    METHODS = (DEVICES_SERVICE_WATCH_REPORT,)
