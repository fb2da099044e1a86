"""Typed stubs and servicers of jumpstarter_proto/v1/jumpstarter.proto; written by proto/generate.py, not by hand."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from google.protobuf import empty_pb2
from jumpstarter_proto.v1 import jumpstarter_pb2
from jumpstarter_proto.rpc import Caller, Cardinality, ClientCall, Metadata, Method, ServerCall, Servicer


CONTROLLER_SERVICE_REGISTER = Method(
    "/jumpstarter.v1.ControllerService/Register",
    Cardinality.UNARY_UNARY,
    jumpstarter_pb2.RegisterRequest,
    jumpstarter_pb2.RegisterResponse,
)
CONTROLLER_SERVICE_UNREGISTER = Method(
    "/jumpstarter.v1.ControllerService/Unregister",
    Cardinality.UNARY_UNARY,
    jumpstarter_pb2.UnregisterRequest,
    jumpstarter_pb2.UnregisterResponse,
)
CONTROLLER_SERVICE_REPORT_STATUS = Method(
    "/jumpstarter.v1.ControllerService/ReportStatus",
    Cardinality.UNARY_UNARY,
    jumpstarter_pb2.ReportStatusRequest,
    jumpstarter_pb2.ReportStatusResponse,
)
CONTROLLER_SERVICE_LISTEN = Method(
    "/jumpstarter.v1.ControllerService/Listen",
    Cardinality.UNARY_STREAM,
    jumpstarter_pb2.ListenRequest,
    jumpstarter_pb2.ListenResponse,
)
CONTROLLER_SERVICE_STATUS = Method(
    "/jumpstarter.v1.ControllerService/Status",
    Cardinality.UNARY_STREAM,
    jumpstarter_pb2.StatusRequest,
    jumpstarter_pb2.StatusResponse,
)
CONTROLLER_SERVICE_GET_SERVICE_ENDPOINTS = Method(
    "/jumpstarter.v1.ControllerService/GetServiceEndpoints",
    Cardinality.UNARY_UNARY,
    jumpstarter_pb2.GetServiceEndpointsRequest,
    jumpstarter_pb2.GetServiceEndpointsResponse,
)
CONTROLLER_SERVICE_DIAL = Method(
    "/jumpstarter.v1.ControllerService/Dial",
    Cardinality.UNARY_UNARY,
    jumpstarter_pb2.DialRequest,
    jumpstarter_pb2.DialResponse,
)
CONTROLLER_SERVICE_AUDIT_STREAM = Method(
    "/jumpstarter.v1.ControllerService/AuditStream",
    Cardinality.STREAM_UNARY,
    jumpstarter_pb2.AuditStreamRequest,
    empty_pb2.Empty,
)
CONTROLLER_SERVICE_GET_LEASE = Method(
    "/jumpstarter.v1.ControllerService/GetLease",
    Cardinality.UNARY_UNARY,
    jumpstarter_pb2.GetLeaseRequest,
    jumpstarter_pb2.GetLeaseResponse,
)
CONTROLLER_SERVICE_REQUEST_LEASE = Method(
    "/jumpstarter.v1.ControllerService/RequestLease",
    Cardinality.UNARY_UNARY,
    jumpstarter_pb2.RequestLeaseRequest,
    jumpstarter_pb2.RequestLeaseResponse,
)
CONTROLLER_SERVICE_RELEASE_LEASE = Method(
    "/jumpstarter.v1.ControllerService/ReleaseLease",
    Cardinality.UNARY_UNARY,
    jumpstarter_pb2.ReleaseLeaseRequest,
    jumpstarter_pb2.ReleaseLeaseResponse,
)
CONTROLLER_SERVICE_LIST_LEASES = Method(
    "/jumpstarter.v1.ControllerService/ListLeases",
    Cardinality.UNARY_UNARY,
    jumpstarter_pb2.ListLeasesRequest,
    jumpstarter_pb2.ListLeasesResponse,
)


class ControllerServiceStub:
    """Calls jumpstarter.v1.ControllerService over a channel."""

    def __init__(self, channel: Caller) -> None:
        self._channel = channel

    async def Register(
        self, request: jumpstarter_pb2.RegisterRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> jumpstarter_pb2.RegisterResponse:
        return await self._channel.unary(CONTROLLER_SERVICE_REGISTER, request, timeout=timeout, metadata=metadata)

    async def Unregister(
        self, request: jumpstarter_pb2.UnregisterRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> jumpstarter_pb2.UnregisterResponse:
        return await self._channel.unary(CONTROLLER_SERVICE_UNREGISTER, request, timeout=timeout, metadata=metadata)

    async def ReportStatus(
        self, request: jumpstarter_pb2.ReportStatusRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> jumpstarter_pb2.ReportStatusResponse:
        return await self._channel.unary(CONTROLLER_SERVICE_REPORT_STATUS, request, timeout=timeout, metadata=metadata)

    def Listen(
        self, request: jumpstarter_pb2.ListenRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AbstractAsyncContextManager[ClientCall[jumpstarter_pb2.ListenRequest, jumpstarter_pb2.ListenResponse]]:
        return self._channel.server_stream(CONTROLLER_SERVICE_LISTEN, request, timeout=timeout, metadata=metadata)

    def Status(
        self, request: jumpstarter_pb2.StatusRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AbstractAsyncContextManager[ClientCall[jumpstarter_pb2.StatusRequest, jumpstarter_pb2.StatusResponse]]:
        return self._channel.server_stream(CONTROLLER_SERVICE_STATUS, request, timeout=timeout, metadata=metadata)

    async def GetServiceEndpoints(
        self, request: jumpstarter_pb2.GetServiceEndpointsRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> jumpstarter_pb2.GetServiceEndpointsResponse:
        return await self._channel.unary(CONTROLLER_SERVICE_GET_SERVICE_ENDPOINTS, request, timeout=timeout, metadata=metadata)

    async def Dial(
        self, request: jumpstarter_pb2.DialRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> jumpstarter_pb2.DialResponse:
        return await self._channel.unary(CONTROLLER_SERVICE_DIAL, request, timeout=timeout, metadata=metadata)

    def AuditStream(
        self, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AbstractAsyncContextManager[ClientCall[jumpstarter_pb2.AuditStreamRequest, empty_pb2.Empty]]:
        return self._channel.stream(CONTROLLER_SERVICE_AUDIT_STREAM, timeout=timeout, metadata=metadata)

    async def GetLease(
        self, request: jumpstarter_pb2.GetLeaseRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> jumpstarter_pb2.GetLeaseResponse:
        return await self._channel.unary(CONTROLLER_SERVICE_GET_LEASE, request, timeout=timeout, metadata=metadata)

    async def RequestLease(
        self, request: jumpstarter_pb2.RequestLeaseRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> jumpstarter_pb2.RequestLeaseResponse:
        return await self._channel.unary(CONTROLLER_SERVICE_REQUEST_LEASE, request, timeout=timeout, metadata=metadata)

    async def ReleaseLease(
        self, request: jumpstarter_pb2.ReleaseLeaseRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> jumpstarter_pb2.ReleaseLeaseResponse:
        return await self._channel.unary(CONTROLLER_SERVICE_RELEASE_LEASE, request, timeout=timeout, metadata=metadata)

    async def ListLeases(
        self, request: jumpstarter_pb2.ListLeasesRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> jumpstarter_pb2.ListLeasesResponse:
        return await self._channel.unary(CONTROLLER_SERVICE_LIST_LEASES, request, timeout=timeout, metadata=metadata)


class ControllerServiceServicer(Servicer):
    """Handles jumpstarter.v1.ControllerService; override what you serve."""

    async def Register(self, request: jumpstarter_pb2.RegisterRequest, call: ServerCall[jumpstarter_pb2.RegisterRequest, jumpstarter_pb2.RegisterResponse]) -> jumpstarter_pb2.RegisterResponse:
        raise self.unimplemented("Register")

    async def Unregister(self, request: jumpstarter_pb2.UnregisterRequest, call: ServerCall[jumpstarter_pb2.UnregisterRequest, jumpstarter_pb2.UnregisterResponse]) -> jumpstarter_pb2.UnregisterResponse:
        raise self.unimplemented("Unregister")

    async def ReportStatus(self, request: jumpstarter_pb2.ReportStatusRequest, call: ServerCall[jumpstarter_pb2.ReportStatusRequest, jumpstarter_pb2.ReportStatusResponse]) -> jumpstarter_pb2.ReportStatusResponse:
        raise self.unimplemented("ReportStatus")

    async def Listen(self, request: jumpstarter_pb2.ListenRequest, call: ServerCall[jumpstarter_pb2.ListenRequest, jumpstarter_pb2.ListenResponse]) -> None:
        raise self.unimplemented("Listen")

    async def Status(self, request: jumpstarter_pb2.StatusRequest, call: ServerCall[jumpstarter_pb2.StatusRequest, jumpstarter_pb2.StatusResponse]) -> None:
        raise self.unimplemented("Status")

    async def GetServiceEndpoints(self, request: jumpstarter_pb2.GetServiceEndpointsRequest, call: ServerCall[jumpstarter_pb2.GetServiceEndpointsRequest, jumpstarter_pb2.GetServiceEndpointsResponse]) -> jumpstarter_pb2.GetServiceEndpointsResponse:
        raise self.unimplemented("GetServiceEndpoints")

    async def Dial(self, request: jumpstarter_pb2.DialRequest, call: ServerCall[jumpstarter_pb2.DialRequest, jumpstarter_pb2.DialResponse]) -> jumpstarter_pb2.DialResponse:
        raise self.unimplemented("Dial")

    async def AuditStream(self, call: ServerCall[jumpstarter_pb2.AuditStreamRequest, empty_pb2.Empty]) -> empty_pb2.Empty:
        raise self.unimplemented("AuditStream")

    async def GetLease(self, request: jumpstarter_pb2.GetLeaseRequest, call: ServerCall[jumpstarter_pb2.GetLeaseRequest, jumpstarter_pb2.GetLeaseResponse]) -> jumpstarter_pb2.GetLeaseResponse:
        raise self.unimplemented("GetLease")

    async def RequestLease(self, request: jumpstarter_pb2.RequestLeaseRequest, call: ServerCall[jumpstarter_pb2.RequestLeaseRequest, jumpstarter_pb2.RequestLeaseResponse]) -> jumpstarter_pb2.RequestLeaseResponse:
        raise self.unimplemented("RequestLease")

    async def ReleaseLease(self, request: jumpstarter_pb2.ReleaseLeaseRequest, call: ServerCall[jumpstarter_pb2.ReleaseLeaseRequest, jumpstarter_pb2.ReleaseLeaseResponse]) -> jumpstarter_pb2.ReleaseLeaseResponse:
        raise self.unimplemented("ReleaseLease")

    async def ListLeases(self, request: jumpstarter_pb2.ListLeasesRequest, call: ServerCall[jumpstarter_pb2.ListLeasesRequest, jumpstarter_pb2.ListLeasesResponse]) -> jumpstarter_pb2.ListLeasesResponse:
        raise self.unimplemented("ListLeases")

    METHODS = (CONTROLLER_SERVICE_REGISTER, CONTROLLER_SERVICE_UNREGISTER, CONTROLLER_SERVICE_REPORT_STATUS, CONTROLLER_SERVICE_LISTEN, CONTROLLER_SERVICE_STATUS, CONTROLLER_SERVICE_GET_SERVICE_ENDPOINTS, CONTROLLER_SERVICE_DIAL, CONTROLLER_SERVICE_AUDIT_STREAM, CONTROLLER_SERVICE_GET_LEASE, CONTROLLER_SERVICE_REQUEST_LEASE, CONTROLLER_SERVICE_RELEASE_LEASE, CONTROLLER_SERVICE_LIST_LEASES)


EXPORTER_SERVICE_GET_REPORT = Method(
    "/jumpstarter.v1.ExporterService/GetReport",
    Cardinality.UNARY_UNARY,
    empty_pb2.Empty,
    jumpstarter_pb2.GetReportResponse,
)
EXPORTER_SERVICE_DRIVER_CALL = Method(
    "/jumpstarter.v1.ExporterService/DriverCall",
    Cardinality.UNARY_UNARY,
    jumpstarter_pb2.DriverCallRequest,
    jumpstarter_pb2.DriverCallResponse,
)
EXPORTER_SERVICE_STREAMING_DRIVER_CALL = Method(
    "/jumpstarter.v1.ExporterService/StreamingDriverCall",
    Cardinality.UNARY_STREAM,
    jumpstarter_pb2.StreamingDriverCallRequest,
    jumpstarter_pb2.StreamingDriverCallResponse,
)
EXPORTER_SERVICE_LOG_STREAM = Method(
    "/jumpstarter.v1.ExporterService/LogStream",
    Cardinality.UNARY_STREAM,
    empty_pb2.Empty,
    jumpstarter_pb2.LogStreamResponse,
)
EXPORTER_SERVICE_RESET = Method(
    "/jumpstarter.v1.ExporterService/Reset",
    Cardinality.UNARY_UNARY,
    jumpstarter_pb2.ResetRequest,
    jumpstarter_pb2.ResetResponse,
)
EXPORTER_SERVICE_GET_STATUS = Method(
    "/jumpstarter.v1.ExporterService/GetStatus",
    Cardinality.UNARY_UNARY,
    jumpstarter_pb2.GetStatusRequest,
    jumpstarter_pb2.GetStatusResponse,
)
EXPORTER_SERVICE_END_SESSION = Method(
    "/jumpstarter.v1.ExporterService/EndSession",
    Cardinality.UNARY_UNARY,
    jumpstarter_pb2.EndSessionRequest,
    jumpstarter_pb2.EndSessionResponse,
)


class ExporterServiceStub:
    """Calls jumpstarter.v1.ExporterService over a channel."""

    def __init__(self, channel: Caller) -> None:
        self._channel = channel

    async def GetReport(
        self, request: empty_pb2.Empty, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> jumpstarter_pb2.GetReportResponse:
        return await self._channel.unary(EXPORTER_SERVICE_GET_REPORT, request, timeout=timeout, metadata=metadata)

    async def DriverCall(
        self, request: jumpstarter_pb2.DriverCallRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> jumpstarter_pb2.DriverCallResponse:
        return await self._channel.unary(EXPORTER_SERVICE_DRIVER_CALL, request, timeout=timeout, metadata=metadata)

    def StreamingDriverCall(
        self, request: jumpstarter_pb2.StreamingDriverCallRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AbstractAsyncContextManager[ClientCall[jumpstarter_pb2.StreamingDriverCallRequest, jumpstarter_pb2.StreamingDriverCallResponse]]:
        return self._channel.server_stream(EXPORTER_SERVICE_STREAMING_DRIVER_CALL, request, timeout=timeout, metadata=metadata)

    def LogStream(
        self, request: empty_pb2.Empty, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AbstractAsyncContextManager[ClientCall[empty_pb2.Empty, jumpstarter_pb2.LogStreamResponse]]:
        return self._channel.server_stream(EXPORTER_SERVICE_LOG_STREAM, request, timeout=timeout, metadata=metadata)

    async def Reset(
        self, request: jumpstarter_pb2.ResetRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> jumpstarter_pb2.ResetResponse:
        return await self._channel.unary(EXPORTER_SERVICE_RESET, request, timeout=timeout, metadata=metadata)

    async def GetStatus(
        self, request: jumpstarter_pb2.GetStatusRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> jumpstarter_pb2.GetStatusResponse:
        return await self._channel.unary(EXPORTER_SERVICE_GET_STATUS, request, timeout=timeout, metadata=metadata)

    async def EndSession(
        self, request: jumpstarter_pb2.EndSessionRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> jumpstarter_pb2.EndSessionResponse:
        return await self._channel.unary(EXPORTER_SERVICE_END_SESSION, request, timeout=timeout, metadata=metadata)


class ExporterServiceServicer(Servicer):
    """Handles jumpstarter.v1.ExporterService; override what you serve."""

    async def GetReport(self, request: empty_pb2.Empty, call: ServerCall[empty_pb2.Empty, jumpstarter_pb2.GetReportResponse]) -> jumpstarter_pb2.GetReportResponse:
        raise self.unimplemented("GetReport")

    async def DriverCall(self, request: jumpstarter_pb2.DriverCallRequest, call: ServerCall[jumpstarter_pb2.DriverCallRequest, jumpstarter_pb2.DriverCallResponse]) -> jumpstarter_pb2.DriverCallResponse:
        raise self.unimplemented("DriverCall")

    async def StreamingDriverCall(self, request: jumpstarter_pb2.StreamingDriverCallRequest, call: ServerCall[jumpstarter_pb2.StreamingDriverCallRequest, jumpstarter_pb2.StreamingDriverCallResponse]) -> None:
        raise self.unimplemented("StreamingDriverCall")

    async def LogStream(self, request: empty_pb2.Empty, call: ServerCall[empty_pb2.Empty, jumpstarter_pb2.LogStreamResponse]) -> None:
        raise self.unimplemented("LogStream")

    async def Reset(self, request: jumpstarter_pb2.ResetRequest, call: ServerCall[jumpstarter_pb2.ResetRequest, jumpstarter_pb2.ResetResponse]) -> jumpstarter_pb2.ResetResponse:
        raise self.unimplemented("Reset")

    async def GetStatus(self, request: jumpstarter_pb2.GetStatusRequest, call: ServerCall[jumpstarter_pb2.GetStatusRequest, jumpstarter_pb2.GetStatusResponse]) -> jumpstarter_pb2.GetStatusResponse:
        raise self.unimplemented("GetStatus")

    async def EndSession(self, request: jumpstarter_pb2.EndSessionRequest, call: ServerCall[jumpstarter_pb2.EndSessionRequest, jumpstarter_pb2.EndSessionResponse]) -> jumpstarter_pb2.EndSessionResponse:
        raise self.unimplemented("EndSession")

    METHODS = (EXPORTER_SERVICE_GET_REPORT, EXPORTER_SERVICE_DRIVER_CALL, EXPORTER_SERVICE_STREAMING_DRIVER_CALL, EXPORTER_SERVICE_LOG_STREAM, EXPORTER_SERVICE_RESET, EXPORTER_SERVICE_GET_STATUS, EXPORTER_SERVICE_END_SESSION)
