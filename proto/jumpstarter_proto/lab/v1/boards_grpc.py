"""Typed stubs and servicers of jumpstarter_proto/lab/v1/boards.proto; written by proto/generate.py, not by hand."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from jumpstarter_proto.lab.v1 import boards_pb2
from jumpstarter_proto.lab.v1 import lab_pb2
from jumpstarter_proto.rpc import Caller, Cardinality, ClientCall, Metadata, Method, ServerCall, Servicer


BOARD_SERVICE_REGISTER_BOARD = Method(
    "/jumpstarter_sbc.lab.v1.BoardService/RegisterBoard",
    Cardinality.UNARY_UNARY,
    boards_pb2.RegisterBoardRequest,
    lab_pb2.Credential,
)
BOARD_SERVICE_RETIRE_BOARD = Method(
    "/jumpstarter_sbc.lab.v1.BoardService/RetireBoard",
    Cardinality.UNARY_UNARY,
    boards_pb2.RetireBoardRequest,
    boards_pb2.RetireBoardResponse,
)


class BoardServiceStub:
    """Calls jumpstarter_sbc.lab.v1.BoardService over a channel."""

    def __init__(self, channel: Caller) -> None:
        self._channel = channel

    async def RegisterBoard(
        self, request: boards_pb2.RegisterBoardRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> lab_pb2.Credential:
        return await self._channel.unary(BOARD_SERVICE_REGISTER_BOARD, request, timeout=timeout, metadata=metadata)

    async def RetireBoard(
        self, request: boards_pb2.RetireBoardRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> boards_pb2.RetireBoardResponse:
        return await self._channel.unary(BOARD_SERVICE_RETIRE_BOARD, request, timeout=timeout, metadata=metadata)


class BoardServiceServicer(Servicer):
    """Handles jumpstarter_sbc.lab.v1.BoardService; override what you serve."""

    async def RegisterBoard(self, request: boards_pb2.RegisterBoardRequest, call: ServerCall[boards_pb2.RegisterBoardRequest, lab_pb2.Credential]) -> lab_pb2.Credential:
        raise self.unimplemented("RegisterBoard")

    async def RetireBoard(self, request: boards_pb2.RetireBoardRequest, call: ServerCall[boards_pb2.RetireBoardRequest, boards_pb2.RetireBoardResponse]) -> boards_pb2.RetireBoardResponse:
        raise self.unimplemented("RetireBoard")

    METHODS = (BOARD_SERVICE_REGISTER_BOARD, BOARD_SERVICE_RETIRE_BOARD)
