"""Calls `on` of the device `power` in each of the ways: `python typed_worker.py SOCKET`, over one connection.

Reads one JSON request a line and answers with how long each call took, in seconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from google.protobuf.empty_pb2 import Empty
from jumpstarter_proto.driver.power.v1 import power_grpc
from jumpstarter_proto.purerpc_adapter.channel import PurerpcChannel
from jumpstarter_proto.rpc import Cardinality, Method, open_channel
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub
from jumpstarter_proto.v1.jumpstarter_pb2 import DriverCallRequest

ON = Method("/jumpstarter.driver.power.v1.PowerInterface/On", Cardinality.UNARY_UNARY, Empty, Empty)


async def timed(count: int, call: Callable[[], Awaitable[Any]]) -> list[float]:
    times = []
    for _ in range(count):
        start = time.perf_counter()
        await call()
        times.append(time.perf_counter() - start)
    return times


async def main(socket: str) -> None:
    async with open_channel(await trio.open_unix_socket(socket)) as channel:
        exporter = ExporterServiceStub(channel)
        reports = (await exporter.GetReport(Empty())).reports
        [uuid] = [one.uuid for one in reports if one.labels["jumpstarter.dev/name"] == "power"]
        request = DriverCallRequest(uuid=uuid, method="on")
        metadata = (("x-jumpstarter-driver-uuid", uuid),)
        stub: Any = power_grpc.PowerInterfaceStub(PurerpcChannel(channel, metadata=metadata))
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "driver": lambda: exporter.DriverCall(request),
            "typed": lambda: channel.unary(ON, Empty(), metadata=metadata),
            "stub": lambda: stub.On(Empty()),
        }
        print("ready", flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            operation, count = json.loads(line)
            print(json.dumps(await timed(count, calls[operation])), flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
