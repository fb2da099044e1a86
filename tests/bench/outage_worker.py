"""Clients that call while controllers are killed: `python outage_worker.py SELECTOR CONFIGURATIONS`.

Each is the client library as a user has it, with an identity of its own.

- `call N`: N clients, from the third on, ask for a lease, look at it and at all exporters, and give it back, on and on;
  a call that fails is made again until it succeeds.
- `longest _`: for each of them, how long a call took since this was asked before, in seconds, with its failures; it
  answers when each has begun and ended a round.
- `hold _`: the first client has the board, the second waits for it.
- `move SINCE`: the first gives it back, and so does the second when it has it; the seconds from SINCE until then.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import trio
from jumpstarter_client.controller.controller_client import ControllerClient
from jumpstarter_client.identity.client_config import ClientConfig
from jumpstarter_client.lease import lease as leases
from jumpstarter_client.lease.request import LeaseRequest
from jumpstarter_proto.remote import Identity, Kind, Trust
from jumpstarter_proto.rpc import RpcError

AGAIN_SECONDS = 0.05
GIVE_UP_SECONDS = 60.0
LEASE_SECONDS = 60.0
ROUNDS_OF_A_CONNECTION = 20


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
                    Trust(ca=one["tls"]["ca"]),
                )
            )
            for one in configurations
        ]
        self._nursery = nursery
        self._longest: dict[ControllerClient, float] = {}
        self._rounds: dict[ControllerClient, int] = {}
        self._held: list[Any] = []

    async def call(self, count: int) -> list[float]:
        callers = self._controllers[2 : 2 + count]
        for one in callers:
            self._longest[one], self._rounds[one] = 0.0, 0
            self._nursery.start_soon(self._call, one)
        return await self.longest(0)

    async def longest(self, _: int) -> list[float]:
        before = dict(self._rounds)
        while any(self._rounds[one] < before[one] + 2 for one in before):
            await trio.sleep(AGAIN_SECONDS)
        found = list(self._longest.values())
        self._longest = dict.fromkeys(self._longest, 0.0)
        return found

    async def hold(self, _: int) -> list[float]:
        first, second = self._controllers[:2]
        self._held = []
        for one in (first, second):
            self._held.append(await leases.create_lease(one, leases.new_lease_name(), self._request))
            if one is first:
                await leases.wait_for_lease(one, self._held[0], lambda _: None, timeout=LEASE_SECONDS)
        return [0.0]

    async def move(self, since: float) -> list[float]:
        first, second = self._controllers[:2]
        held, waiting = self._held
        await leases.release_lease(first, held.name.rpartition("/")[2])
        await leases.wait_for_lease(second, waiting, lambda _: None, timeout=LEASE_SECONDS)
        took = time.monotonic() - since
        await leases.release_lease(second, waiting.name.rpartition("/")[2])
        return [took]

    async def _call(self, controller: ControllerClient) -> None:
        while True:
            async with AsyncExitStack() as stack:
                await self._timed(controller, partial(_keep_open, stack, controller))
                for _ in range(ROUNDS_OF_A_CONNECTION):
                    name = leases.new_lease_name()
                    await self._timed(
                        controller, partial(leases.create_lease, controller, name, self._request)
                    )
                    await self._timed(controller, partial(_look, controller, name))
                    await self._timed(controller, partial(leases.release_lease, controller, name))
                    self._rounds[controller] += 1

    async def _timed(self, controller: ControllerClient, call: Callable[[], Awaitable[object]]) -> None:
        start = time.perf_counter()
        while True:
            try:
                await call()
                break
            except RpcError:
                if time.perf_counter() - start > GIVE_UP_SECONDS:
                    raise
                await trio.sleep(AGAIN_SECONDS)
        self._longest[controller] = max(self._longest[controller], time.perf_counter() - start)


async def _keep_open(stack: AsyncExitStack, controller: ControllerClient) -> None:
    await stack.enter_async_context(controller.keep_connected())


async def _look(controller: ControllerClient, name: str) -> None:
    async with controller.open() as calls:
        await calls.get_lease(name)
        async for _ in calls.exporters():
            pass


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
