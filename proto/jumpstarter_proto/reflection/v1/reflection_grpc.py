"""Typed stubs and servicers of jumpstarter_proto/reflection/v1/reflection.proto; written by proto/generate.py, not by hand."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from jumpstarter_proto.reflection.v1 import reflection_pb2
from jumpstarter_proto.rpc import Caller, Cardinality, ClientCall, Metadata, Method, ServerCall, Servicer


SERVER_REFLECTION_SERVER_REFLECTION_INFO = Method(
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    Cardinality.STREAM_STREAM,
    reflection_pb2.ServerReflectionRequest,
    reflection_pb2.ServerReflectionResponse,
)


class ServerReflectionStub:
    """Calls grpc.reflection.v1.ServerReflection over a channel."""

    def __init__(self, channel: Caller) -> None:
        self._channel = channel

    def ServerReflectionInfo(
        self, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AbstractAsyncContextManager[ClientCall[reflection_pb2.ServerReflectionRequest, reflection_pb2.ServerReflectionResponse]]:
        return self._channel.stream(SERVER_REFLECTION_SERVER_REFLECTION_INFO, timeout=timeout, metadata=metadata)


class ServerReflectionServicer(Servicer):
    """Handles grpc.reflection.v1.ServerReflection; override what you serve."""

    async def ServerReflectionInfo(self, call: ServerCall[reflection_pb2.ServerReflectionRequest, reflection_pb2.ServerReflectionResponse]) -> None:
        raise self.unimplemented("ServerReflectionInfo")

    METHODS = (SERVER_REFLECTION_SERVER_REFLECTION_INFO,)
