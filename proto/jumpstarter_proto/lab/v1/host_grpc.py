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
HOST_SERVICE_DRAIN = Method(
    "/jumpstarter_sbc.lab.v1.HostService/Drain",
    Cardinality.UNARY_UNARY,
    host_pb2.DrainRequest,
    host_pb2.DrainResponse,
)
HOST_SERVICE_RESUME = Method(
    "/jumpstarter_sbc.lab.v1.HostService/Resume",
    Cardinality.UNARY_UNARY,
    host_pb2.ResumeRequest,
    host_pb2.ResumeResponse,
)
HOST_SERVICE_FORGET = Method(
    "/jumpstarter_sbc.lab.v1.HostService/Forget",
    Cardinality.UNARY_UNARY,
    host_pb2.ForgetRequest,
    host_pb2.ForgetResponse,
)
HOST_SERVICE_RELOAD = Method(
    "/jumpstarter_sbc.lab.v1.HostService/Reload",
    Cardinality.UNARY_UNARY,
    host_pb2.ReloadRequest,
    host_pb2.ReloadResponse,
)


class HostServiceStub:
    """Calls jumpstarter_sbc.lab.v1.HostService over a channel."""

    def __init__(self, channel: Caller) -> None:
        self._channel = channel

    async def ListBoards(
        self, request: host_pb2.ListBoardsRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> host_pb2.ListBoardsResponse:
        return await self._channel.unary(HOST_SERVICE_LIST_BOARDS, request, timeout=timeout, metadata=metadata)

    async def Drain(
        self, request: host_pb2.DrainRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> host_pb2.DrainResponse:
        return await self._channel.unary(HOST_SERVICE_DRAIN, request, timeout=timeout, metadata=metadata)

    async def Resume(
        self, request: host_pb2.ResumeRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> host_pb2.ResumeResponse:
        return await self._channel.unary(HOST_SERVICE_RESUME, request, timeout=timeout, metadata=metadata)

    async def Forget(
        self, request: host_pb2.ForgetRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> host_pb2.ForgetResponse:
        return await self._channel.unary(HOST_SERVICE_FORGET, request, timeout=timeout, metadata=metadata)

    async def Reload(
        self, request: host_pb2.ReloadRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> host_pb2.ReloadResponse:
        return await self._channel.unary(HOST_SERVICE_RELOAD, request, timeout=timeout, metadata=metadata)


class HostServiceServicer(Servicer):
    """Handles jumpstarter_sbc.lab.v1.HostService; override what you serve."""

    async def ListBoards(self, request: host_pb2.ListBoardsRequest, call: ServerCall[host_pb2.ListBoardsRequest, host_pb2.ListBoardsResponse]) -> host_pb2.ListBoardsResponse:
        raise self.unimplemented("ListBoards")

    async def Drain(self, request: host_pb2.DrainRequest, call: ServerCall[host_pb2.DrainRequest, host_pb2.DrainResponse]) -> host_pb2.DrainResponse:
        raise self.unimplemented("Drain")

    async def Resume(self, request: host_pb2.ResumeRequest, call: ServerCall[host_pb2.ResumeRequest, host_pb2.ResumeResponse]) -> host_pb2.ResumeResponse:
        raise self.unimplemented("Resume")

    async def Forget(self, request: host_pb2.ForgetRequest, call: ServerCall[host_pb2.ForgetRequest, host_pb2.ForgetResponse]) -> host_pb2.ForgetResponse:
        raise self.unimplemented("Forget")

    async def Reload(self, request: host_pb2.ReloadRequest, call: ServerCall[host_pb2.ReloadRequest, host_pb2.ReloadResponse]) -> host_pb2.ReloadResponse:
        raise self.unimplemented("Reload")

    METHODS = (HOST_SERVICE_LIST_BOARDS, HOST_SERVICE_DRAIN, HOST_SERVICE_RESUME, HOST_SERVICE_FORGET, HOST_SERVICE_RELOAD)
