"""grpc.health.v1: whether the server, or one of its services, takes calls."""

from __future__ import annotations

from collections.abc import Sequence

import trio
from jumpstarter_proto.health.v1 import health_grpc
from jumpstarter_proto.health.v1 import health_pb2 as pb
from jumpstarter_proto.rpc import RpcError, ServerCall, Servicer, StatusCode

__all__ = ["Health"]

SERVING = pb.HealthCheckResponse.ServingStatus.SERVING
NOT_SERVING = pb.HealthCheckResponse.ServingStatus.NOT_SERVING
SERVICE_UNKNOWN = pb.HealthCheckResponse.ServingStatus.SERVICE_UNKNOWN


class Health(health_grpc.HealthServicer):
    """Everything serves until `leave`."""

    def __init__(self, services: Sequence[Servicer]) -> None:
        self._names = {"", *(method.service for one in services for method in one.METHODS)}
        self._leaving = trio.Event()

    @property
    def serving(self) -> bool:
        """Whether new calls are accepted."""
        return not self._leaving.is_set()

    def leave(self) -> None:
        """Report NOT_SERVING to all checks from now on, and end all watches."""
        self._leaving.set()

    async def Check(  # noqa: D102, N802 - the procedure's name
        self,
        request: pb.HealthCheckRequest,
        call: ServerCall[pb.HealthCheckRequest, pb.HealthCheckResponse],
    ) -> pb.HealthCheckResponse:
        if request.service not in self._names:
            raise RpcError(StatusCode.NOT_FOUND, f"there is no service {request.service[:200]!r} here")
        return pb.HealthCheckResponse(status=SERVING if self.serving else NOT_SERVING)

    async def Watch(  # noqa: D102, N802 - the procedure's name
        self,
        request: pb.HealthCheckRequest,
        call: ServerCall[pb.HealthCheckRequest, pb.HealthCheckResponse],
    ) -> None:
        known = request.service in self._names
        call.disable_auth_timeout()
        if self.serving:
            await call.send(pb.HealthCheckResponse(status=SERVING if known else SERVICE_UNKNOWN))
            await self._leaving.wait()
        if known:
            await call.send(pb.HealthCheckResponse(status=NOT_SERVING))
