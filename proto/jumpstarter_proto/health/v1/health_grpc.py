"""Typed stubs and servicers of jumpstarter_proto/health/v1/health.proto; written by proto/generate.py, not by hand."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from jumpstarter_proto.health.v1 import health_pb2
from jumpstarter_proto.rpc import Caller, Cardinality, ClientCall, Metadata, Method, ServerCall, Servicer


HEALTH_CHECK = Method(
    "/grpc.health.v1.Health/Check",
    Cardinality.UNARY_UNARY,
    health_pb2.HealthCheckRequest,
    health_pb2.HealthCheckResponse,
)
HEALTH_WATCH = Method(
    "/grpc.health.v1.Health/Watch",
    Cardinality.UNARY_STREAM,
    health_pb2.HealthCheckRequest,
    health_pb2.HealthCheckResponse,
)


class HealthStub:
    """Calls grpc.health.v1.Health over a channel."""

    def __init__(self, channel: Caller) -> None:
        self._channel = channel

    async def Check(
        self, request: health_pb2.HealthCheckRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> health_pb2.HealthCheckResponse:
        return await self._channel.unary(HEALTH_CHECK, request, timeout=timeout, metadata=metadata)

    def Watch(
        self, request: health_pb2.HealthCheckRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AbstractAsyncContextManager[ClientCall[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]]:
        return self._channel.server_stream(HEALTH_WATCH, request, timeout=timeout, metadata=metadata)


class HealthServicer(Servicer):
    """Handles grpc.health.v1.Health; override what you serve."""

    async def Check(self, request: health_pb2.HealthCheckRequest, call: ServerCall[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]) -> health_pb2.HealthCheckResponse:
        raise self.unimplemented("Check")

    async def Watch(self, request: health_pb2.HealthCheckRequest, call: ServerCall[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]) -> None:
        raise self.unimplemented("Watch")

    METHODS = (HEALTH_CHECK, HEALTH_WATCH)
