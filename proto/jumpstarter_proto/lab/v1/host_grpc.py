"""Typed stubs and servicers of jumpstarter_proto/lab/v1/host.proto; written by proto/generate.py, not by hand."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from jumpstarter_proto.lab.v1 import host_pb2
from jumpstarter_proto.rpc import Caller, Cardinality, ClientCall, Metadata, Method, ServerCall, Servicer


HOST_SERVICE_LIST_BOARDS = Method(
    "/jumpstarter_sbc.lab.v1.HostService/ListBoards",
    Cardinality.UNARY_UNARY,
    host_pb2.ListBoardsRequest,
    host_pb2.ListBoardsResponse,
)


class HostServiceStub:
    """Calls jumpstarter_sbc.lab.v1.HostService over a channel."""

    def __init__(self, channel: Caller) -> None:
        self._channel = channel

    async def ListBoards(
        self, request: host_pb2.ListBoardsRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> host_pb2.ListBoardsResponse:
        return await self._channel.unary(HOST_SERVICE_LIST_BOARDS, request, timeout=timeout, metadata=metadata)


class HostServiceServicer(Servicer):
    """Handles jumpstarter_sbc.lab.v1.HostService; override what you serve."""

    async def ListBoards(self, request: host_pb2.ListBoardsRequest, call: ServerCall[host_pb2.ListBoardsRequest, host_pb2.ListBoardsResponse]) -> host_pb2.ListBoardsResponse:
        raise self.unimplemented("ListBoards")

    METHODS = (HOST_SERVICE_LIST_BOARDS,)
