"""Drives a board with purerpc's own client and the stub that its plugin has generated; prints what it saw, as JSON.

`python -m tests.typed.purerpc_client HOST PORT`. A process of its own: purerpc leaves streams and sockets unclosed.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import purerpc
import trio
from google.protobuf import empty_pb2
from jumpstarter_proto.driver.power.v1 import power_grpc, power_pb2


async def main(host: str, port: int) -> None:
    async with purerpc.insecure_channel(host, port) as channel:
        stub: Any = power_grpc.PowerInterfaceStub(channel)
        await stub.On(empty_pb2.Empty())
        volts = [one.voltage async for one in stub.Read(empty_pb2.Empty())]
        try:
            await stub.Cycle(power_pb2.CycleRequest(wait=-1))
        except purerpc.InvalidArgumentError as error:
            print(json.dumps({"read": volts, "bad_cycle": error.status.status_message}))


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]))
