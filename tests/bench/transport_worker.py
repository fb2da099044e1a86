"""One end of a gRPC connection on a unix socket: `transport_worker.py ours|grpcio server|client SOCKET`.

The messages are the same objects on both sides; only the transport differs. A server says `ready` and serves
until its stdin ends. A client reads one JSON request a line and answers with how long it took, in seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from jumpstarter_proto.v1.jumpstarter_pb2 import DriverCallRequest, DriverCallResponse
from jumpstarter_proto.v1.router_pb2 import StreamRequest, StreamResponse

UNARY = "/jumpstarter.v1.ExporterService/DriverCall"
STREAM = "/jumpstarter.v1.RouterService/Stream"
CALL = DriverCallRequest(uuid="8c8b5b0e-8b1a-4e0b-9a53-64bd3ee0b1b5", method="on")
CHUNK = StreamRequest(payload=bytes(65536))


def answer(request: DriverCallRequest) -> DriverCallResponse:
    return DriverCallResponse(uuid=request.uuid)


def receipt(size: int) -> StreamResponse:
    return StreamResponse(payload=str(size).encode())


async def timed(count: int, action: Callable[[], Awaitable[object]]) -> list[float]:
    """The seconds of each of `count` runs, one after the other."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        await action()
        times.append(time.perf_counter() - start)
    return times


def grpcio_server(path: str) -> None:
    import grpc
    import grpc.aio

    async def unary(request: DriverCallRequest, context: object) -> DriverCallResponse:
        return answer(request)

    async def stream(
        requests: AsyncIterator[StreamRequest], context: object
    ) -> AsyncIterator[StreamResponse]:
        size = 0
        async for request in requests:
            size += len(request.payload)
        yield receipt(size)

    async def serve() -> None:
        server = grpc.aio.server()
        call = grpc.unary_unary_rpc_method_handler(
            unary, DriverCallRequest.FromString, DriverCallResponse.SerializeToString
        )
        frames = grpc.stream_stream_rpc_method_handler(
            stream, StreamRequest.FromString, StreamResponse.SerializeToString
        )
        handlers = [
            grpc.method_handlers_generic_handler("jumpstarter.v1.ExporterService", {"DriverCall": call}),
            grpc.method_handlers_generic_handler("jumpstarter.v1.RouterService", {"Stream": frames}),
        ]
        server.add_generic_rpc_handlers(handlers)
        server.add_insecure_port(f"unix://{path}")
        await server.start()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await server.stop(0)

    asyncio.run(serve())


def grpcio_client(path: str) -> None:
    import grpc.aio

    async def run() -> None:
        async with grpc.aio.insecure_channel(f"unix://{path}") as channel:
            call = channel.unary_unary(
                UNARY, DriverCallRequest.SerializeToString, DriverCallResponse.FromString
            )
            frames = channel.stream_stream(STREAM, StreamRequest.SerializeToString, StreamResponse.FromString)

            async def stream(count: int) -> list[float]:
                start = time.perf_counter()
                exchange = frames()
                for _ in range(count):
                    await exchange.write(CHUNK)
                await exchange.done_writing()
                check(await exchange.read(), count)
                return [time.perf_counter() - start]

            async def unary(count: int) -> list[float]:
                return await timed(count, lambda: call(CALL))

            await obey({"unary": unary, "stream": stream}, lambda: asyncio.to_thread(sys.stdin.readline))

    asyncio.run(run())


def our_server(path: str) -> None:
    import trio
    from jumpstarter_proto.rpc import Server, ServerCall, unix_listener
    from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceServicer
    from jumpstarter_proto.v1.router_grpc import RouterServiceServicer

    class Exporter(ExporterServiceServicer):
        async def DriverCall(  # noqa: N802
            self, request: DriverCallRequest, call: ServerCall[DriverCallRequest, DriverCallResponse]
        ) -> DriverCallResponse:
            return answer(request)

    class Router(RouterServiceServicer):
        async def Stream(self, call: ServerCall[StreamRequest, StreamResponse]) -> None:  # noqa: N802
            size = 0
            async for request in call:
                size += len(request.payload)
            await call.send(receipt(size))

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(Server([Exporter(), Router()]).serve, [unix_listener(Path(path))])
            print("ready", flush=True)
            await trio.to_thread.run_sync(sys.stdin.read)
            nursery.cancel_scope.cancel()

    trio.run(serve)


def our_client(path: str) -> None:
    import trio
    from jumpstarter_proto.rpc import connect_unix, open_channel
    from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub
    from jumpstarter_proto.v1.router_grpc import RouterServiceStub

    async def run() -> None:
        async with open_channel(await connect_unix(path)) as channel:
            exporter, router = ExporterServiceStub(channel), RouterServiceStub(channel)

            async def stream(count: int) -> list[float]:
                start = time.perf_counter()
                async with router.Stream() as exchange:
                    for _ in range(count):
                        await exchange.send(CHUNK)
                    await exchange.send_eof()
                    check(await exchange.receive(), count)
                return [time.perf_counter() - start]

            async def unary(count: int) -> list[float]:
                return await timed(count, lambda: exporter.DriverCall(CALL))

            await obey(
                {"unary": unary, "stream": stream}, lambda: trio.to_thread.run_sync(sys.stdin.readline)
            )

    trio.run(run)


def check(response: Any, count: int) -> None:
    if response.payload != str(count * 65536).encode():
        raise RuntimeError(f"the server got {response.payload!r} bytes")


async def obey(
    operations: dict[str, Callable[[int], Awaitable[list[float]]]], read: Callable[[], Awaitable[str]]
) -> None:
    print("ready", flush=True)
    while line := await read():
        operation, count = json.loads(line)
        print(json.dumps(await operations[operation](count)), flush=True)


ENDS = {
    ("grpcio", "server"): grpcio_server,
    ("grpcio", "client"): grpcio_client,
    ("ours", "server"): our_server,
    ("ours", "client"): our_client,
}

if __name__ == "__main__":
    ENDS[sys.argv[1], sys.argv[2]](sys.argv[3])
