"""Typed stubs and servicers of jumpstarter_proto/client/v1/client.proto; written by proto/generate.py, not by hand."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from google.protobuf import empty_pb2
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.rpc import Caller, Cardinality, ClientCall, Metadata, Method, ServerCall, Servicer


CLIENT_SERVICE_GET_EXPORTER = Method(
    "/jumpstarter.client.v1.ClientService/GetExporter",
    Cardinality.UNARY_UNARY,
    client_pb2.GetExporterRequest,
    client_pb2.Exporter,
)
CLIENT_SERVICE_LIST_EXPORTERS = Method(
    "/jumpstarter.client.v1.ClientService/ListExporters",
    Cardinality.UNARY_UNARY,
    client_pb2.ListExportersRequest,
    client_pb2.ListExportersResponse,
)
CLIENT_SERVICE_GET_LEASE = Method(
    "/jumpstarter.client.v1.ClientService/GetLease",
    Cardinality.UNARY_UNARY,
    client_pb2.GetLeaseRequest,
    client_pb2.Lease,
)
CLIENT_SERVICE_LIST_LEASES = Method(
    "/jumpstarter.client.v1.ClientService/ListLeases",
    Cardinality.UNARY_UNARY,
    client_pb2.ListLeasesRequest,
    client_pb2.ListLeasesResponse,
)
CLIENT_SERVICE_CREATE_LEASE = Method(
    "/jumpstarter.client.v1.ClientService/CreateLease",
    Cardinality.UNARY_UNARY,
    client_pb2.CreateLeaseRequest,
    client_pb2.Lease,
)
CLIENT_SERVICE_UPDATE_LEASE = Method(
    "/jumpstarter.client.v1.ClientService/UpdateLease",
    Cardinality.UNARY_UNARY,
    client_pb2.UpdateLeaseRequest,
    client_pb2.Lease,
)
CLIENT_SERVICE_DELETE_LEASE = Method(
    "/jumpstarter.client.v1.ClientService/DeleteLease",
    Cardinality.UNARY_UNARY,
    client_pb2.DeleteLeaseRequest,
    empty_pb2.Empty,
)
CLIENT_SERVICE_ROTATE_TOKEN = Method(
    "/jumpstarter.client.v1.ClientService/RotateToken",
    Cardinality.UNARY_UNARY,
    client_pb2.RotateTokenRequest,
    client_pb2.RotateTokenResponse,
)


class ClientServiceStub:
    """Calls jumpstarter.client.v1.ClientService over a channel."""

    def __init__(self, channel: Caller) -> None:
        self._channel = channel

    async def GetExporter(
        self, request: client_pb2.GetExporterRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> client_pb2.Exporter:
        return await self._channel.unary(CLIENT_SERVICE_GET_EXPORTER, request, timeout=timeout, metadata=metadata)

    async def ListExporters(
        self, request: client_pb2.ListExportersRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> client_pb2.ListExportersResponse:
        return await self._channel.unary(CLIENT_SERVICE_LIST_EXPORTERS, request, timeout=timeout, metadata=metadata)

    async def GetLease(
        self, request: client_pb2.GetLeaseRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> client_pb2.Lease:
        return await self._channel.unary(CLIENT_SERVICE_GET_LEASE, request, timeout=timeout, metadata=metadata)

    async def ListLeases(
        self, request: client_pb2.ListLeasesRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> client_pb2.ListLeasesResponse:
        return await self._channel.unary(CLIENT_SERVICE_LIST_LEASES, request, timeout=timeout, metadata=metadata)

    async def CreateLease(
        self, request: client_pb2.CreateLeaseRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> client_pb2.Lease:
        return await self._channel.unary(CLIENT_SERVICE_CREATE_LEASE, request, timeout=timeout, metadata=metadata)

    async def UpdateLease(
        self, request: client_pb2.UpdateLeaseRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> client_pb2.Lease:
        return await self._channel.unary(CLIENT_SERVICE_UPDATE_LEASE, request, timeout=timeout, metadata=metadata)

    async def DeleteLease(
        self, request: client_pb2.DeleteLeaseRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> empty_pb2.Empty:
        return await self._channel.unary(CLIENT_SERVICE_DELETE_LEASE, request, timeout=timeout, metadata=metadata)

    async def RotateToken(
        self, request: client_pb2.RotateTokenRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> client_pb2.RotateTokenResponse:
        return await self._channel.unary(CLIENT_SERVICE_ROTATE_TOKEN, request, timeout=timeout, metadata=metadata)


class ClientServiceServicer(Servicer):
    """Handles jumpstarter.client.v1.ClientService; override what you serve."""

    async def GetExporter(self, request: client_pb2.GetExporterRequest, call: ServerCall[client_pb2.GetExporterRequest, client_pb2.Exporter]) -> client_pb2.Exporter:
        raise self.unimplemented("GetExporter")

    async def ListExporters(self, request: client_pb2.ListExportersRequest, call: ServerCall[client_pb2.ListExportersRequest, client_pb2.ListExportersResponse]) -> client_pb2.ListExportersResponse:
        raise self.unimplemented("ListExporters")

    async def GetLease(self, request: client_pb2.GetLeaseRequest, call: ServerCall[client_pb2.GetLeaseRequest, client_pb2.Lease]) -> client_pb2.Lease:
        raise self.unimplemented("GetLease")

    async def ListLeases(self, request: client_pb2.ListLeasesRequest, call: ServerCall[client_pb2.ListLeasesRequest, client_pb2.ListLeasesResponse]) -> client_pb2.ListLeasesResponse:
        raise self.unimplemented("ListLeases")

    async def CreateLease(self, request: client_pb2.CreateLeaseRequest, call: ServerCall[client_pb2.CreateLeaseRequest, client_pb2.Lease]) -> client_pb2.Lease:
        raise self.unimplemented("CreateLease")

    async def UpdateLease(self, request: client_pb2.UpdateLeaseRequest, call: ServerCall[client_pb2.UpdateLeaseRequest, client_pb2.Lease]) -> client_pb2.Lease:
        raise self.unimplemented("UpdateLease")

    async def DeleteLease(self, request: client_pb2.DeleteLeaseRequest, call: ServerCall[client_pb2.DeleteLeaseRequest, empty_pb2.Empty]) -> empty_pb2.Empty:
        raise self.unimplemented("DeleteLease")

    async def RotateToken(self, request: client_pb2.RotateTokenRequest, call: ServerCall[client_pb2.RotateTokenRequest, client_pb2.RotateTokenResponse]) -> client_pb2.RotateTokenResponse:
        raise self.unimplemented("RotateToken")

    METHODS = (CLIENT_SERVICE_GET_EXPORTER, CLIENT_SERVICE_LIST_EXPORTERS, CLIENT_SERVICE_GET_LEASE, CLIENT_SERVICE_LIST_LEASES, CLIENT_SERVICE_CREATE_LEASE, CLIENT_SERVICE_UPDATE_LEASE, CLIENT_SERVICE_DELETE_LEASE, CLIENT_SERVICE_ROTATE_TOKEN)
