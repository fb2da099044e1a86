"""The service of gRPC's published interop cases, as far as they apply, without code generation.

Messages are wrappers that protobuf ships. `Large` carries a size and gets as many bytes; the first metadata value
of `x-grpc-test-echo-initial` and of `x-grpc-test-echo-trailing-bin` come back.
"""

from __future__ import annotations

import trio
from google.protobuf import empty_pb2, wrappers_pb2
from jumpstarter_proto.rpc import Cardinality, Method, ServerCall, Servicer, StatusCode

Empty = empty_pb2.Empty
Bytes = wrappers_pb2.BytesValue
Number = wrappers_pb2.UInt32Value

NAME = "grpc.testing.TestService"
EMPTY = Method(f"/{NAME}/EmptyCall", Cardinality.UNARY_UNARY, Empty, Empty)
LARGE = Method(f"/{NAME}/UnaryCall", Cardinality.UNARY_UNARY, Bytes, Bytes)
"""Returns as many bytes as it gets, reversed."""
STATUS = Method(f"/{NAME}/Status", Cardinality.UNARY_UNARY, Bytes, Empty)
"""Fails with code 2 and the request as its message."""
SLEEP = Method(f"/{NAME}/Sleep", Cardinality.UNARY_UNARY, Empty, Empty)
CLIENT_STREAM = Method(f"/{NAME}/StreamingInputCall", Cardinality.STREAM_UNARY, Bytes, Number)
SERVER_STREAM = Method(f"/{NAME}/StreamingOutputCall", Cardinality.UNARY_STREAM, Number, Bytes)
"""Sends messages of 1, 2, … times the request's size, three of them."""
PING_PONG = Method(f"/{NAME}/FullDuplexCall", Cardinality.STREAM_STREAM, Number, Bytes)
UNIMPLEMENTED = Method(f"/{NAME}/UnimplementedCall", Cardinality.UNARY_UNARY, Empty, Empty)
UNKNOWN_SERVICE = Method("/grpc.testing.UnimplementedService/Call", Cardinality.UNARY_UNARY, Empty, Empty)

INITIAL = "x-grpc-test-echo-initial"
TRAILING = "x-grpc-test-echo-trailing-bin"
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
SIZES = (27182, 8, 1828, 45904)


class TestServicer(Servicer):
    """Our side of it."""

    __test__ = False
    METHODS = (EMPTY, LARGE, STATUS, SLEEP, CLIENT_STREAM, SERVER_STREAM, PING_PONG)

    def __init__(self) -> None:
        self.sleeping = trio.Event()
        """Sleep's handler runs."""
        self.cancelled = trio.Event()
        """A handler was cancelled."""

    async def _echo_metadata(self, call: ServerCall[object, object]) -> None:  # type: ignore[type-var]
        found = dict(call.metadata)
        if TRAILING in found:
            call.set_trailing_metadata([(TRAILING, found[TRAILING])])
        if INITIAL in found:
            await call.send_initial_metadata([(INITIAL, found[INITIAL])])

    async def EmptyCall(self, request: Empty, call: ServerCall[Empty, Empty]) -> Empty:  # noqa: N802
        return Empty()

    async def UnaryCall(self, request: Bytes, call: ServerCall[Bytes, Bytes]) -> Bytes:  # noqa: N802
        await self._echo_metadata(call)
        return Bytes(value=request.value[::-1])

    async def Status(self, request: Bytes, call: ServerCall[Bytes, Empty]) -> Empty:  # noqa: N802
        call.abort(StatusCode.UNKNOWN, request.value.decode())

    async def Sleep(self, request: Empty, call: ServerCall[Empty, Empty]) -> Empty:  # noqa: N802
        self.sleeping.set()
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled.set()

    async def StreamingInputCall(self, call: ServerCall[Bytes, Number]) -> Number:  # noqa: N802
        size = 0
        try:
            async for request in call:
                size += len(request.value)
        except trio.Cancelled:
            self.cancelled.set()
            raise
        return Number(value=size)

    async def StreamingOutputCall(self, request: Number, call: ServerCall[Number, Bytes]) -> None:  # noqa: N802
        for factor in (1, 2, 3):
            await call.send(Bytes(value=bytes(request.value * factor)))

    async def FullDuplexCall(self, call: ServerCall[Number, Bytes]) -> None:  # noqa: N802
        await self._echo_metadata(call)
        try:
            async for request in call:
                await call.send(Bytes(value=bytes(request.value)))
        except trio.Cancelled:
            self.cancelled.set()
            raise
