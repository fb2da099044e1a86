"""Many exporters in one process: `python swarm_worker.py CONFIGURATIONS`, where CONFIGURATIONS is a JSON list.

Each has a TLS connection of its own and says on it what an exporter says: Register, ReportStatus, Status, and for
a lease Listen and ReportStatus again. Behind them is no board, so a lease is ready at once. When its controller is
away it comes back as our exporter does, after the same pauses. `connect N`: N more,
until all have their Status stream. `back SINCE`: until each has had another one since that moment of the monotonic
clock. Both answer with the seconds that it took.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import trio
from jumpstarter_exporter.registration.controller import STEADY_SECONDS
from jumpstarter_exporter.registration.retry_policy import RetryPolicy
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.remote import Identity, Kind, Trust, open_controller
from jumpstarter_proto.rpc import RpcError
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.v1.common_pb2 import EXPORTER_STATUS_AVAILABLE, EXPORTER_STATUS_LEASE_READY
from jumpstarter_proto.v1.jumpstarter_grpc import ControllerServiceStub
from jumpstarter_proto.v1.jumpstarter_pb2 import (
    DriverInstanceReport,
    ListenRequest,
    RegisterRequest,
    ReportStatusRequest,
    StatusRequest,
)

AT_A_TIME = 16
"""Connections that are being opened; a lab's exporters come one after the other, too."""
DEVICES = 8
CALL_SECONDS = 60.0


class SharedTrust(Trust):
    """One TLS context for all: 2,000 exporters on one machine are our doing, not the controller's."""

    _context: Any = None

    async def context(self, host: str, port: int, *, timeout: float) -> Any:
        if SharedTrust._context is None:
            SharedTrust._context = await super().context(host, port, timeout=timeout)
        return SharedTrust._context


class Swarm:
    """Exporters that are connected, in the order of their configurations."""

    def __init__(self, configurations: list[dict[str, Any]], nursery: trio.Nursery) -> None:
        self._waiting = iter(configurations)
        self._nursery = nursery
        self._connected: list[float] = []
        """When each has had its latest Status stream."""

    async def connect(self, count: int) -> list[float]:
        """So many more; how long it took until the last one had its Status stream."""
        start = time.perf_counter()
        limit = trio.CapacityLimiter(AT_A_TIME)

        async def one(configuration: dict[str, Any]) -> None:
            async with limit:
                await self._nursery.start(self._exporter, configuration)

        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(one, next(self._waiting))
        return [time.perf_counter() - start]

    async def back(self, since: float) -> list[float]:
        """All have connected again, as their controller was restarted; how long it took until the last one had."""
        while min(self._connected) <= since:
            await trio.sleep(0.02)
        return [max(self._connected) - since]

    async def _exporter(
        self, configuration: dict[str, Any], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """One exporter, for ever."""
        number, patience = len(self._connected), RetryPolicy()
        self._connected.append(0.0)

        def connected() -> None:
            nonlocal task_status
            self._connected[number] = time.monotonic()
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED

        while True:
            began = time.monotonic()
            failure = None
            try:
                with collapsed():
                    await exporter(configuration, connected)
            except JumpstarterError as error:
                failure = error
            if began < self._connected[number] <= time.monotonic() - STEADY_SECONDS:
                patience.succeeded()
            pause = patience.failed(failure) if failure else patience.ended()
            if pause.level >= logging.ERROR:
                print(pause.sentence, file=sys.stderr)
            await trio.sleep(pause.seconds)


async def exporter(configuration: dict[str, Any], connected: Callable[[], None]) -> None:
    """One exporter, from its registration until its connection ends; `connected` hears of its Status stream."""
    reports = [
        DriverInstanceReport(uuid=f"{number:032x}", labels={"jumpstarter.dev/name": f"device-{number}"})
        for number in range(DEVICES)
    ]
    async with open_stub(configuration) as stub:
        await stub.Register(RegisterRequest(reports=reports), timeout=CALL_SECONDS)
        await report(stub, EXPORTER_STATUS_AVAILABLE)
        async with stub.Status(StatusRequest()) as call, trio.open_nursery() as nursery:
            lease = ""
            listening = trio.CancelScope()
            is_new = True
            async for message in call:
                if is_new:
                    connected()
                    is_new = False
                wanted = message.lease_name if message.leased else ""
                if wanted == lease:
                    continue
                listening.cancel()
                lease = wanted
                if lease:
                    listening = trio.CancelScope()
                    await nursery.start(listen, stub, lease, listening)
                await report(stub, EXPORTER_STATUS_LEASE_READY if lease else EXPORTER_STATUS_AVAILABLE)


async def listen(
    stub: ControllerServiceStub,
    lease: str,
    scope: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Hear of connections, which nobody makes here. When it breaks, so does the Status stream, which says why."""
    with scope, suppress(RpcError):
        async with stub.Listen(ListenRequest(lease_name=lease)) as call:
            await call.initial_metadata()
            task_status.started()
            async for _ in call:
                pass


async def report(stub: ControllerServiceStub, status: int) -> None:
    await stub.ReportStatus(ReportStatusRequest(status=status), timeout=CALL_SECONDS)  # type: ignore[arg-type]


@asynccontextmanager
async def open_stub(configuration: dict[str, Any]) -> AsyncIterator[ControllerServiceStub]:
    metadata = configuration["metadata"]
    identity = Identity(Kind.EXPORTER, metadata["namespace"], metadata["name"], configuration["token"])
    trust = SharedTrust(ca=configuration["tls"]["ca"])
    async with open_controller(configuration["endpoint"], trust, identity, timeout=CALL_SECONDS) as channel:
        yield ControllerServiceStub(channel)


async def main(path: Path) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    async with trio.open_nursery() as nursery:
        swarm = Swarm(json.loads(path.read_text()), nursery)
        print("ready", flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            operation, argument = json.loads(line)
            print(json.dumps(await getattr(swarm, operation)(argument)), flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]))
