"""Typed stubs and servicers of jumpstarter_proto/v1/router.proto; written by proto/generate.py, not by hand."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from jumpstarter_proto.v1 import router_pb2
from jumpstarter_proto.rpc import Caller, Cardinality, ClientCall, Metadata, Method, ServerCall, Servicer


ROUTER_SERVICE_STREAM = Method(
    "/jumpstarter.v1.RouterService/Stream",
    Cardinality.STREAM_STREAM,
    router_pb2.StreamRequest,
    router_pb2.StreamResponse,
)


class RouterServiceStub:
    """Calls jumpstarter.v1.RouterService over a channel."""

    def __init__(self, channel: Caller) -> None:
        self._channel = channel

    def Stream(
        self, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AbstractAsyncContextManager[ClientCall[router_pb2.StreamRequest, router_pb2.StreamResponse]]:
        return self._channel.stream(ROUTER_SERVICE_STREAM, timeout=timeout, metadata=metadata)


class RouterServiceServicer(Servicer):
    """Handles jumpstarter.v1.RouterService; override what you serve."""

    async def Stream(self, call: ServerCall[router_pb2.StreamRequest, router_pb2.StreamResponse]) -> None:
        raise self.unimplemented("Stream")

    METHODS = (ROUTER_SERVICE_STREAM,)
