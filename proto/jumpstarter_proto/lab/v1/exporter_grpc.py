"""Typed stubs and servicers of jumpstarter_proto/lab/v1/exporter.proto; written by proto/generate.py, not by hand."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from jumpstarter_proto.lab.v1 import exporter_pb2
from jumpstarter_proto.rpc import Caller, Cardinality, ClientCall, Metadata, Method, ServerCall, Servicer


EXPORTER_SERVICE_WATCH_ASSIGNMENT = Method(
    "/jumpstarter_sbc.lab.v1.ExporterService/WatchAssignment",
    Cardinality.UNARY_STREAM,
    exporter_pb2.WatchAssignmentRequest,
    exporter_pb2.Assignment,
)
EXPORTER_SERVICE_ACCEPT_LEASE = Method(
    "/jumpstarter_sbc.lab.v1.ExporterService/AcceptLease",
    Cardinality.UNARY_UNARY,
    exporter_pb2.AcceptLeaseRequest,
    exporter_pb2.AcceptLeaseResponse,
)
EXPORTER_SERVICE_DECLINE_LEASE = Method(
    "/jumpstarter_sbc.lab.v1.ExporterService/DeclineLease",
    Cardinality.UNARY_UNARY,
    exporter_pb2.DeclineLeaseRequest,
    exporter_pb2.DeclineLeaseResponse,
)
EXPORTER_SERVICE_REPORT_STATUS = Method(
    "/jumpstarter_sbc.lab.v1.ExporterService/ReportStatus",
    Cardinality.UNARY_UNARY,
    exporter_pb2.ReportStatusRequest,
    exporter_pb2.ReportStatusResponse,
)
EXPORTER_SERVICE_REPORT_HEALTH = Method(
    "/jumpstarter_sbc.lab.v1.ExporterService/ReportHealth",
    Cardinality.UNARY_UNARY,
    exporter_pb2.ReportHealthRequest,
    exporter_pb2.ReportHealthResponse,
)
EXPORTER_SERVICE_REPORT_CALLS = Method(
    "/jumpstarter_sbc.lab.v1.ExporterService/ReportCalls",
    Cardinality.UNARY_UNARY,
    exporter_pb2.ReportCallsRequest,
    exporter_pb2.ReportCallsResponse,
)


class ExporterServiceStub:
    """Calls jumpstarter_sbc.lab.v1.ExporterService over a channel."""

    def __init__(self, channel: Caller) -> None:
        self._channel = channel

    def WatchAssignment(
        self, request: exporter_pb2.WatchAssignmentRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AbstractAsyncContextManager[ClientCall[exporter_pb2.WatchAssignmentRequest, exporter_pb2.Assignment]]:
        return self._channel.server_stream(EXPORTER_SERVICE_WATCH_ASSIGNMENT, request, timeout=timeout, metadata=metadata)

    async def AcceptLease(
        self, request: exporter_pb2.AcceptLeaseRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> exporter_pb2.AcceptLeaseResponse:
        return await self._channel.unary(EXPORTER_SERVICE_ACCEPT_LEASE, request, timeout=timeout, metadata=metadata)

    async def DeclineLease(
        self, request: exporter_pb2.DeclineLeaseRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> exporter_pb2.DeclineLeaseResponse:
        return await self._channel.unary(EXPORTER_SERVICE_DECLINE_LEASE, request, timeout=timeout, metadata=metadata)

    async def ReportStatus(
        self, request: exporter_pb2.ReportStatusRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> exporter_pb2.ReportStatusResponse:
        return await self._channel.unary(EXPORTER_SERVICE_REPORT_STATUS, request, timeout=timeout, metadata=metadata)

    async def ReportHealth(
        self, request: exporter_pb2.ReportHealthRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> exporter_pb2.ReportHealthResponse:
        return await self._channel.unary(EXPORTER_SERVICE_REPORT_HEALTH, request, timeout=timeout, metadata=metadata)

    async def ReportCalls(
        self, request: exporter_pb2.ReportCallsRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> exporter_pb2.ReportCallsResponse:
        return await self._channel.unary(EXPORTER_SERVICE_REPORT_CALLS, request, timeout=timeout, metadata=metadata)


class ExporterServiceServicer(Servicer):
    """Handles jumpstarter_sbc.lab.v1.ExporterService; override what you serve."""

    async def WatchAssignment(self, request: exporter_pb2.WatchAssignmentRequest, call: ServerCall[exporter_pb2.WatchAssignmentRequest, exporter_pb2.Assignment]) -> None:
        raise self.unimplemented("WatchAssignment")

    async def AcceptLease(self, request: exporter_pb2.AcceptLeaseRequest, call: ServerCall[exporter_pb2.AcceptLeaseRequest, exporter_pb2.AcceptLeaseResponse]) -> exporter_pb2.AcceptLeaseResponse:
        raise self.unimplemented("AcceptLease")

    async def DeclineLease(self, request: exporter_pb2.DeclineLeaseRequest, call: ServerCall[exporter_pb2.DeclineLeaseRequest, exporter_pb2.DeclineLeaseResponse]) -> exporter_pb2.DeclineLeaseResponse:
        raise self.unimplemented("DeclineLease")

    async def ReportStatus(self, request: exporter_pb2.ReportStatusRequest, call: ServerCall[exporter_pb2.ReportStatusRequest, exporter_pb2.ReportStatusResponse]) -> exporter_pb2.ReportStatusResponse:
        raise self.unimplemented("ReportStatus")

    async def ReportHealth(self, request: exporter_pb2.ReportHealthRequest, call: ServerCall[exporter_pb2.ReportHealthRequest, exporter_pb2.ReportHealthResponse]) -> exporter_pb2.ReportHealthResponse:
        raise self.unimplemented("ReportHealth")

    async def ReportCalls(self, request: exporter_pb2.ReportCallsRequest, call: ServerCall[exporter_pb2.ReportCallsRequest, exporter_pb2.ReportCallsResponse]) -> exporter_pb2.ReportCallsResponse:
        raise self.unimplemented("ReportCalls")

    METHODS = (EXPORTER_SERVICE_WATCH_ASSIGNMENT, EXPORTER_SERVICE_ACCEPT_LEASE, EXPORTER_SERVICE_DECLINE_LEASE, EXPORTER_SERVICE_REPORT_STATUS, EXPORTER_SERVICE_REPORT_HEALTH, EXPORTER_SERVICE_REPORT_CALLS)
