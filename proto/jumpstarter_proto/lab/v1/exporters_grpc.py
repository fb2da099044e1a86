"""Typed stubs and servicers of jumpstarter_proto/lab/v1/exporters.proto; written by proto/generate.py, not by hand."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from jumpstarter_proto.lab.v1 import exporters_pb2
from jumpstarter_proto.rpc import Caller, Cardinality, ClientCall, Metadata, Method, ServerCall, Servicer


LAB_SERVICE_GET_EXPORTER_DETAILS = Method(
    "/jumpstarter_sbc.lab.v1.LabService/GetExporterDetails",
    Cardinality.UNARY_UNARY,
    exporters_pb2.GetExporterDetailsRequest,
    exporters_pb2.ExporterDetails,
)
LAB_SERVICE_LIST_EXPORTER_DETAILS = Method(
    "/jumpstarter_sbc.lab.v1.LabService/ListExporterDetails",
    Cardinality.UNARY_UNARY,
    exporters_pb2.ListExporterDetailsRequest,
    exporters_pb2.ListExporterDetailsResponse,
)
LAB_SERVICE_WATCH = Method(
    "/jumpstarter_sbc.lab.v1.LabService/Watch",
    Cardinality.UNARY_STREAM,
    exporters_pb2.WatchRequest,
    exporters_pb2.LabNews,
)


class LabServiceStub:
    """Calls jumpstarter_sbc.lab.v1.LabService over a channel."""

    def __init__(self, channel: Caller) -> None:
        self._channel = channel

    async def GetExporterDetails(
        self, request: exporters_pb2.GetExporterDetailsRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> exporters_pb2.ExporterDetails:
        return await self._channel.unary(LAB_SERVICE_GET_EXPORTER_DETAILS, request, timeout=timeout, metadata=metadata)

    async def ListExporterDetails(
        self, request: exporters_pb2.ListExporterDetailsRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> exporters_pb2.ListExporterDetailsResponse:
        return await self._channel.unary(LAB_SERVICE_LIST_EXPORTER_DETAILS, request, timeout=timeout, metadata=metadata)

    def Watch(
        self, request: exporters_pb2.WatchRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AbstractAsyncContextManager[ClientCall[exporters_pb2.WatchRequest, exporters_pb2.LabNews]]:
        return self._channel.server_stream(LAB_SERVICE_WATCH, request, timeout=timeout, metadata=metadata)


class LabServiceServicer(Servicer):
    """Handles jumpstarter_sbc.lab.v1.LabService; override what you serve."""

    async def GetExporterDetails(self, request: exporters_pb2.GetExporterDetailsRequest, call: ServerCall[exporters_pb2.GetExporterDetailsRequest, exporters_pb2.ExporterDetails]) -> exporters_pb2.ExporterDetails:
        raise self.unimplemented("GetExporterDetails")

    async def ListExporterDetails(self, request: exporters_pb2.ListExporterDetailsRequest, call: ServerCall[exporters_pb2.ListExporterDetailsRequest, exporters_pb2.ListExporterDetailsResponse]) -> exporters_pb2.ListExporterDetailsResponse:
        raise self.unimplemented("ListExporterDetails")

    async def Watch(self, request: exporters_pb2.WatchRequest, call: ServerCall[exporters_pb2.WatchRequest, exporters_pb2.LabNews]) -> None:
        raise self.unimplemented("Watch")

    METHODS = (LAB_SERVICE_GET_EXPORTER_DETAILS, LAB_SERVICE_LIST_EXPORTER_DETAILS, LAB_SERVICE_WATCH)
