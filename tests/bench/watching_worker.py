"""Many clients in one process that are told of a lab: `python watching_worker.py SELECTOR CONFIGURATIONS`.

Each is the client library as a user has it, with an identity of its own. `wait N`: N clients want a board, the first
gets it, and it answers when all others stand in the queue. `ask N`: they wait anew, as with a controller that does not
tell. `watch N`: N clients watch all exporters. `change N`: one more leases a board and gives it back; the seconds from
its wish until each of the N has heard who has the board.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import trio
from jumpstarter_client.controller.controller_client import ControllerClient
from jumpstarter_client.controller.lab_snapshot import LabSnapshot
from jumpstarter_client.controller.watch import watch_lab
from jumpstarter_client.identity.client_config import ClientConfig
from jumpstarter_client.lease import lease as leases
from jumpstarter_client.lease.request import LeaseRequest
from jumpstarter_proto.lab.v1.exporters_pb2 import LEASE_SCOPE_HELD, WatchRequest
from jumpstarter_proto.remote import Identity, Kind, Trust

AT_A_TIME = 16
"""Connections that are being opened."""


class SharedTrust(Trust):
    """One TLS context for all: hundreds of clients on one machine are our doing."""

    _context: Any = None

    async def context(self, host: str, port: int, *, timeout: float) -> Any:
        if SharedTrust._context is None:
            SharedTrust._context = await super().context(host, port, timeout=timeout)
        return SharedTrust._context


class Clients:
    """Clients in the order of their configurations."""

    def __init__(self, selector: str, configurations: list[dict[str, Any]], nursery: trio.Nursery) -> None:
        self._request = LeaseRequest(selector=selector).to_message()
        self._controllers = [
            ControllerClient(
                ClientConfig(
                    one["endpoint"],
                    Identity(
                        Kind.CLIENT, one["metadata"]["namespace"], one["metadata"]["name"], one["token"]
                    ),
                    SharedTrust(ca=one["tls"]["ca"]),
                )
            )
            for one in configurations
        ]
        self._nursery = nursery
        self._waits: list[trio.CancelScope] = []
        self._leases: list[Any] = []
        self._known: list[LabSnapshot] = []
        self._heard: dict[int, float] = {}

    async def wait(self, count: int) -> list[float]:
        limit = trio.CapacityLimiter(AT_A_TIME)
        first, *others = self._controllers[:count]
        self._leases = [await leases.create_lease(first, leases.new_lease_name(), self._request)]

        async def create(controller: ControllerClient) -> None:
            async with limit:
                self._leases.append(
                    await leases.create_lease(controller, leases.new_lease_name(), self._request, waits=True)
                )

        async with trio.open_nursery() as nursery:
            for controller in others:
                nursery.start_soon(create, controller)
        await self._all_wait(count - 1)
        return [0.0]

    async def _all_wait(self, count: int) -> None:
        owners = {one.own_name: one for one in self._controllers}
        said: set[str] = set()
        for scope in self._waits:
            scope.cancel()

        async def until(lease: Any) -> None:
            def tell(sentence: str) -> None:
                if "queue" in sentence:
                    said.add(lease.name)

            with trio.CancelScope() as scope:
                self._waits.append(scope)
                await leases.wait_for_lease(owners[lease.client], lease, tell, timeout=3600)

        for lease in self._leases[1:]:
            self._nursery.start_soon(until, lease)
        while len(said) < count:
            await trio.sleep(0.1)
        await trio.sleep(5)  # places have been told

    async def ask(self, count: int) -> list[float]:
        for one in self._controllers:
            one.supports_watch = False
        await self._all_wait(count)
        return [0.0]

    async def watch(self, count: int) -> list[float]:
        limit = trio.CapacityLimiter(AT_A_TIME)
        ready: set[int] = set()

        async def one(number: int, controller: ControllerClient) -> None:
            known = LabSnapshot()
            opened = trio.Event()

            def look() -> None:
                opened.set()
                ready.add(number)
                if known.leases:
                    self._heard.setdefault(number, time.perf_counter())

            self._known.append(known)
            request = WatchRequest(exporters=True, leases=LEASE_SCOPE_HELD)
            async with limit:
                self._nursery.start_soon(watch_lab, controller, request, known, look)
                await opened.wait()

        async with trio.open_nursery() as nursery:
            for number, controller in enumerate(self._controllers[:count]):
                nursery.start_soon(one, number, controller)
        return [float(len(ready))]

    async def change(self, count: int) -> list[float]:
        controller = self._controllers[count]
        name = leases.new_lease_name()
        async with controller.open() as calls:
            self._heard.clear()
            start = time.perf_counter()
            await calls.create_lease(name, self._request)
            while len(self._heard) < count:
                await trio.sleep(0.01)
            took = [when - start for when in self._heard.values()]
            await calls.delete_lease(name)
            while any(known.leases for known in self._known):
                await trio.sleep(0.01)
            while not any(one.status == 2 for one in self._known[0].exporters.values()):
                await trio.sleep(0.01)
        return took


async def main(selector: str, path: Path) -> None:
    async with trio.open_nursery() as nursery:
        clients = Clients(selector, json.loads(path.read_text()), nursery)
        print("ready", flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            operation, argument = json.loads(line)
            print(json.dumps(await getattr(clients, operation)(argument)), flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], Path(sys.argv[2]))
