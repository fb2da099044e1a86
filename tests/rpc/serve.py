"""A server in its own process, to be killed or measured: `python -m tests.rpc.serve SOCKET`."""

from __future__ import annotations

import sys

import trio
from google.protobuf import wrappers_pb2
from jumpstarter_proto.rpc import Cardinality, Method, Server, ServerCall, Servicer, unix_listener

Bytes = wrappers_pb2.BytesValue
Number = wrappers_pb2.UInt64Value

CHUNK = bytes(65536)
GIBIBYTE = 1 << 30

ECHO = Method("/test.Peer/Echo", Cardinality.STREAM_STREAM, Bytes, Bytes)
SEND = Method("/test.Peer/Send", Cardinality.UNARY_STREAM, Number, Bytes)
SENT = Method("/test.Peer/Sent", Cardinality.UNARY_UNARY, Number, Number)
IGNORE = Method("/test.Peer/Ignore", Cardinality.STREAM_STREAM, Bytes, Bytes)


class Peer(Servicer):
    """Sends without end, or never reads."""

    METHODS = (ECHO, SEND, SENT, IGNORE)

    def __init__(self) -> None:
        self._sent = 0

    async def Echo(self, call: ServerCall[Bytes, Bytes]) -> None:  # noqa: N802
        async for request in call:
            await call.send(request)

    async def Send(self, request: Number, call: ServerCall[Number, Bytes]) -> None:  # noqa: N802
        for _ in range(request.value // len(CHUNK)):
            await call.send(Bytes(value=CHUNK))
            self._sent += len(CHUNK)

    async def Sent(self, request: Number, call: ServerCall[Number, Number]) -> Number:  # noqa: N802
        return Number(value=self._sent)

    async def Ignore(self, call: ServerCall[Bytes, Bytes]) -> None:  # noqa: N802
        await call.send_initial_metadata()
        await trio.sleep_forever()


async def serve(path: str) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(Server([Peer()]).serve, [unix_listener(path)])
        print("ready", flush=True)


if __name__ == "__main__":
    trio.run(serve, sys.argv[1])
