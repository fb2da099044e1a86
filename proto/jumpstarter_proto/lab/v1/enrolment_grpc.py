"""Typed stubs and servicers of jumpstarter_proto/lab/v1/enrolment.proto; written by proto/generate.py, not by hand."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from jumpstarter_proto.lab.v1 import enrolment_pb2
from jumpstarter_proto.lab.v1 import lab_pb2
from jumpstarter_proto.rpc import Caller, Cardinality, ClientCall, Metadata, Method, ServerCall, Servicer


ENROLMENT_SERVICE_ENROL = Method(
    "/jumpstarter_sbc.lab.v1.EnrolmentService/Enrol",
    Cardinality.UNARY_UNARY,
    enrolment_pb2.EnrolRequest,
    lab_pb2.Credential,
)
ENROLMENT_SERVICE_LIST_ISSUERS = Method(
    "/jumpstarter_sbc.lab.v1.EnrolmentService/ListIssuers",
    Cardinality.UNARY_UNARY,
    enrolment_pb2.ListIssuersRequest,
    enrolment_pb2.ListIssuersResponse,
)
ENROLMENT_SERVICE_RENEW_TOKEN = Method(
    "/jumpstarter_sbc.lab.v1.EnrolmentService/RenewToken",
    Cardinality.UNARY_UNARY,
    enrolment_pb2.RenewTokenRequest,
    lab_pb2.Credential,
)
ENROLMENT_SERVICE_WHO_AM_I = Method(
    "/jumpstarter_sbc.lab.v1.EnrolmentService/WhoAmI",
    Cardinality.UNARY_UNARY,
    enrolment_pb2.WhoAmIRequest,
    enrolment_pb2.WhoAmIResponse,
)


class EnrolmentServiceStub:
    """Calls jumpstarter_sbc.lab.v1.EnrolmentService over a channel."""

    def __init__(self, channel: Caller) -> None:
        self._channel = channel

    async def Enrol(
        self, request: enrolment_pb2.EnrolRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> lab_pb2.Credential:
        return await self._channel.unary(ENROLMENT_SERVICE_ENROL, request, timeout=timeout, metadata=metadata)

    async def ListIssuers(
        self, request: enrolment_pb2.ListIssuersRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> enrolment_pb2.ListIssuersResponse:
        return await self._channel.unary(ENROLMENT_SERVICE_LIST_ISSUERS, request, timeout=timeout, metadata=metadata)

    async def RenewToken(
        self, request: enrolment_pb2.RenewTokenRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> lab_pb2.Credential:
        return await self._channel.unary(ENROLMENT_SERVICE_RENEW_TOKEN, request, timeout=timeout, metadata=metadata)

    async def WhoAmI(
        self, request: enrolment_pb2.WhoAmIRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> enrolment_pb2.WhoAmIResponse:
        return await self._channel.unary(ENROLMENT_SERVICE_WHO_AM_I, request, timeout=timeout, metadata=metadata)


class EnrolmentServiceServicer(Servicer):
    """Handles jumpstarter_sbc.lab.v1.EnrolmentService; override what you serve."""

    async def Enrol(self, request: enrolment_pb2.EnrolRequest, call: ServerCall[enrolment_pb2.EnrolRequest, lab_pb2.Credential]) -> lab_pb2.Credential:
        raise self.unimplemented("Enrol")

    async def ListIssuers(self, request: enrolment_pb2.ListIssuersRequest, call: ServerCall[enrolment_pb2.ListIssuersRequest, enrolment_pb2.ListIssuersResponse]) -> enrolment_pb2.ListIssuersResponse:
        raise self.unimplemented("ListIssuers")

    async def RenewToken(self, request: enrolment_pb2.RenewTokenRequest, call: ServerCall[enrolment_pb2.RenewTokenRequest, lab_pb2.Credential]) -> lab_pb2.Credential:
        raise self.unimplemented("RenewToken")

    async def WhoAmI(self, request: enrolment_pb2.WhoAmIRequest, call: ServerCall[enrolment_pb2.WhoAmIRequest, enrolment_pb2.WhoAmIResponse]) -> enrolment_pb2.WhoAmIResponse:
        raise self.unimplemented("WhoAmI")

    METHODS = (ENROLMENT_SERVICE_ENROL, ENROLMENT_SERVICE_LIST_ISSUERS, ENROLMENT_SERVICE_RENEW_TOKEN, ENROLMENT_SERVICE_WHO_AM_I)
