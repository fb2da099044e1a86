"""Many clients in one process that want a board: `python clients_worker.py SELECTOR CONFIGURATIONS`.

Each is the client library as a user has it, asking with the identity of its own. `together N`: N clients at once,
each holds its board until all have one. `in_turn N`: each gives its board back as soon as it has it. Both answer
with the seconds from the wish to the board, for each client. `asking N`: one client, N times, that asks as
Jumpstarter's own clients do, without a pause, on a connection that is there.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import trio
from jumpstarter_client.controller.controller_client import ControllerClient
from jumpstarter_client.controller.lease_view import LeasePhase, lease_progress
from jumpstarter_client.identity.client_config import ClientConfig
from jumpstarter_client.lease.lease import acquire_lease, new_lease_name
from jumpstarter_client.lease.request import LeaseRequest
from jumpstarter_proto.remote import Identity, Kind, Trust

ASKING_SECONDS = 0.002
"""Between two GetLease of one client."""


class Clients:
    """Clients that are not connected yet."""

    def __init__(self, selector: str, configurations: list[dict[str, Any]]) -> None:
        self._wanted = LeaseRequest(selector=selector)
        self._configurations = [
            ClientConfig(
                one["endpoint"],
                Identity(Kind.CLIENT, one["metadata"]["namespace"], one["metadata"]["name"], one["token"]),
                Trust(ca=one["tls"]["ca"]),
            )
            for one in configurations
        ]

    async def together(self, count: int) -> list[float]:
        """Leases that are all held at the same time."""
        return await self._lease(count, hold=True)

    async def in_turn(self, count: int) -> list[float]:
        """Leases that are given back at once."""
        return await self._lease(count, hold=False)

    async def asking(self, count: int) -> list[float]:
        """Leases one after the other, from CreateLease until GetLease says that it is ready."""
        controller = ControllerClient(self._configurations[0])
        request = self._wanted.to_message()
        took = []
        async with controller.keep_connected(), controller.open() as calls:
            for _ in range(count):
                name, start = new_lease_name(), time.perf_counter()
                lease = await calls.create_lease(name, request)
                with trio.fail_after(60):
                    while lease_progress(lease).phase is not LeasePhase.READY:
                        await trio.sleep(ASKING_SECONDS)
                        lease = await calls.get_lease(name)
                took.append(time.perf_counter() - start)
                await calls.delete_lease(name)
        return took

    async def _lease(self, count: int, *, hold: bool) -> list[float]:
        took: list[float] = []
        all_have_one = trio.Event()

        async def one(config: ClientConfig) -> None:
            start = time.perf_counter()
            async with acquire_lease(config, self._wanted):
                took.append(time.perf_counter() - start)
                if len(took) == count:
                    all_have_one.set()
                if hold:
                    await all_have_one.wait()

        async with trio.open_nursery() as nursery:
            for config in self._configurations[:count]:
                nursery.start_soon(one, config)
        return took


async def main(selector: str, path: Path) -> None:
    clients = Clients(selector, json.loads(path.read_text()))
    print("ready", flush=True)
    while line := await trio.to_thread.run_sync(sys.stdin.readline):
        operation, argument = json.loads(line)
        print(json.dumps(await getattr(clients, operation)(argument)), flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], Path(sys.argv[2]))
