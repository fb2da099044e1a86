"""purerpc's own server and client, in a process of their own: they leave streams and sockets unclosed.

`python -m tests.rpc.purerpc_peer serve` prints its port and serves a power switch; `... call PORT` uses one and prints
what it saw, as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import purerpc
import trio
from google.protobuf import empty_pb2
from jumpstarter_proto.driver.power.v1 import power_grpc, power_pb2

VOLTS = (0.0, 5.0)


class Power(power_grpc.PowerInterfaceServicer):
    """Nothing but a servicer, as purerpc has them: it runs on either server."""

    async def On(self, input_message: Any) -> Any:  # noqa: N802 - the wire's name
        return empty_pb2.Empty()

    async def Cycle(self, input_message: Any) -> Any:  # noqa: N802
        raise purerpc.InvalidArgumentError(f"wait is {input_message.wait:g}")

    async def Read(self, input_message: Any) -> AsyncIterator[Any]:  # noqa: N802
        for volts in VOLTS:
            yield power_pb2.PowerReading(voltage=volts)


async def used(stub: Any) -> dict[str, object]:
    """What a stub sees of such a switch."""
    await stub.On(empty_pb2.Empty())
    volts = [one.voltage async for one in stub.Read(empty_pb2.Empty())]
    try:
        await stub.Cycle(power_pb2.CycleRequest(wait=-1))
    except purerpc.InvalidArgumentError as error:
        return {"read": volts, "cycle": error.status.status_message}
    return {"read": volts, "cycle": ""}


async def serve() -> None:
    server = purerpc.Server(0)
    server.add_service(Power().service)
    async with trio.open_nursery() as nursery:
        print(await nursery.start(server.serve_async), flush=True)


async def call(port: int) -> None:
    async with purerpc.insecure_channel("127.0.0.1", port) as channel:
        print(json.dumps(await used(power_grpc.PowerInterfaceStub(channel))))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        trio.run(serve)
    else:
        trio.run(call, int(sys.argv[2]))
