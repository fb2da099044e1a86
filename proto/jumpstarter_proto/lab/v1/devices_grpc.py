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
DEVICES_SERVICE_HOLD = Method(
    "/jumpstarter_sbc.lab.v1.DevicesService/Hold",
    Cardinality.UNARY_STREAM,
    devices_pb2.HoldRequest,
    devices_pb2.HoldResponse,
)
DEVICES_SERVICE_LIST_METHODS = Method(
    "/jumpstarter_sbc.lab.v1.DevicesService/ListMethods",
    Cardinality.UNARY_UNARY,
    devices_pb2.ListMethodsRequest,
    devices_pb2.ListMethodsResponse,
)


class DevicesServiceStub:
    """Calls jumpstarter_sbc.lab.v1.DevicesService over a channel."""

    def __init__(self, channel: Caller) -> None:
        self._channel = channel

    def WatchReport(
        self, request: devices_pb2.WatchReportRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AbstractAsyncContextManager[ClientCall[devices_pb2.WatchReportRequest, jumpstarter_pb2.GetReportResponse]]:
        return self._channel.server_stream(DEVICES_SERVICE_WATCH_REPORT, request, timeout=timeout, metadata=metadata)

    def Hold(
        self, request: devices_pb2.HoldRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AbstractAsyncContextManager[ClientCall[devices_pb2.HoldRequest, devices_pb2.HoldResponse]]:
        return self._channel.server_stream(DEVICES_SERVICE_HOLD, request, timeout=timeout, metadata=metadata)

    async def ListMethods(
        self, request: devices_pb2.ListMethodsRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> devices_pb2.ListMethodsResponse:
        return await self._channel.unary(DEVICES_SERVICE_LIST_METHODS, request, timeout=timeout, metadata=metadata)


class DevicesServiceServicer(Servicer):
    """Handles jumpstarter_sbc.lab.v1.DevicesService; override what you serve."""

    async def WatchReport(self, request: devices_pb2.WatchReportRequest, call: ServerCall[devices_pb2.WatchReportRequest, jumpstarter_pb2.GetReportResponse]) -> None:
        raise self.unimplemented("WatchReport")

    async def Hold(self, request: devices_pb2.HoldRequest, call: ServerCall[devices_pb2.HoldRequest, devices_pb2.HoldResponse]) -> None:
        raise self.unimplemented("Hold")

    async def ListMethods(self, request: devices_pb2.ListMethodsRequest, call: ServerCall[devices_pb2.ListMethodsRequest, devices_pb2.ListMethodsResponse]) -> devices_pb2.ListMethodsResponse:
        raise self.unimplemented("ListMethods")

    METHODS = (DEVICES_SERVICE_WATCH_REPORT, DEVICES_SERVICE_HOLD, DEVICES_SERVICE_LIST_METHODS)
