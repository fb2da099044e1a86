"""purerpc's own client with our server, and its server with our channel; the servicer and the stub are the same."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import trio
from jumpstarter_proto.driver.power.v1 import power_grpc
from jumpstarter_proto.purerpc_adapter.channel import PurerpcChannel
from jumpstarter_proto.purerpc_adapter.servicer import routes
from jumpstarter_proto.rpc import (
    DynamicServicer,
    Route,
    Server,
    ServerCall,
    connect_tcp,
    open_channel,
    tcp_listeners,
)

from tests.rpc.purerpc_peer import VOLTS, Power, used
from tests.support.peers import ROOT

COMMAND = [sys.executable, "-m", "tests.rpc.purerpc_peer"]
SEEN = {"read": list(VOLTS), "cycle": "wait is -1"}
LIMIT = 60


class Found(DynamicServicer):
    async def find(self, call: ServerCall[Any, Any]) -> Route | None:
        return routes(Power()).get(call.method.path)


async def test_its_client_with_our_server(nursery: trio.Nursery) -> None:
    listeners = await tcp_listeners("127.0.0.1", 0)
    await nursery.start(Server([Found()]).serve, listeners)
    listener: Any = listeners[0]
    port = listener.socket.getsockname()[1]
    with trio.fail_after(LIMIT):
        done = await trio.run_process([*COMMAND, "call", str(port)], capture_stdout=True, cwd=ROOT)
    assert json.loads(done.stdout) == SEEN


async def test_its_server_with_our_channel() -> None:
    with subprocess.Popen([*COMMAND, "serve"], stdout=subprocess.PIPE, text=True, cwd=ROOT) as peer:
        assert peer.stdout is not None
        port = int(await trio.to_thread.run_sync(peer.stdout.readline))
        try:
            with trio.fail_after(LIMIT):
                async with open_channel(await connect_tcp("127.0.0.1", port)) as channel:
                    assert await used(power_grpc.PowerInterfaceStub(PurerpcChannel(channel))) == SEEN
        finally:
            peer.terminate()
