"""A lab of our own to be measured: a controller process with its router, and its clients."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import trio
import yaml
from google.protobuf.duration_pb2 import Duration
from jumpstarter_controller.cli.objects import configuration
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.client.v1.client_grpc import ClientServiceStub
from jumpstarter_proto.lab.v1 import lab_grpc, lab_pb2
from jumpstarter_proto.remote import Identity, Kind, Trust, open_controller
from jumpstarter_proto.rpc import connect_unix, open_channel
from jumpstarter_proto.v1 import common_pb2

from tests.bench.process import Worker
from tests.interop import exporters
from tests.support import lab as support

LABEL = "bench"
SELECTOR = f"board={LABEL}"
CALL_SECONDS = 60.0
AT_A_TIME = 64
OPTIONS = ("--log-level", "warning")
"""Of each controller."""

T = TypeVar("T")


class Lab(support.Lab):
    """A controller that runs, and configurations of clients and exporters that it knows."""

    made = 0
    """Configurations."""

    @property
    def router_address(self) -> str:
        """Where its router listens."""
        return f"127.0.0.1:{self.router_port}"

    @property
    def pid(self) -> int:
        return self.controller.process.pid

    def identities(self, kind: Kind, count: int, board: str = LABEL) -> Path:
        """A file with the configurations of so many new clients or exporters, as a JSON list."""
        names = [f"{kind.lower()}-{self.made + number}" for number in range(count)]
        self.made += count
        path = self.home / f"{names[0]}-{count}.json"
        path.write_text(json.dumps(trio.run(self._create, kind, names, board)))
        return path

    def configuration(self, kind: Kind, export: dict[str, Any] | None = None, board: str = LABEL) -> Path:
        """A configuration file of one new client or exporter, with devices."""
        (found,) = json.loads(self.identities(kind, 1, board).read_text())
        path = self.home / f"{found['metadata']['name']}.yaml"
        path.write_text(yaml.safe_dump(found | ({"export": export} if export else {})))
        return path

    async def _create(self, kind: Kind, names: Sequence[str], board: str) -> list[dict[str, Any]]:
        made: dict[str, dict[str, Any]] = {}
        limit = trio.CapacityLimiter(AT_A_TIME)
        labels = {"board": board} if kind is Kind.EXPORTER else {}
        stream = await connect_unix(self.data / "admin.sock")
        async with open_channel(stream) as channel, trio.open_nursery() as nursery:
            stub = lab_grpc.AdminServiceStub(channel)

            async def create(name: str) -> None:
                request = lab_pb2.CreateRequest(
                    kind=kind.value, namespace=self.namespace, name=name, labels=labels
                )
                async with limit:
                    made[name] = configuration(kind, await stub.Create(request, timeout=CALL_SECONDS))

            for name in names:
                nursery.start_soon(create, name)
        return [made[name] for name in names]

    def lease(self, client: Path) -> str:
        """A new lease of that client on any exporter; its name."""

        async def create(stub: ClientServiceStub) -> str:
            lease = client_pb2.Lease(selector=SELECTOR, duration=Duration(seconds=3600))
            request = client_pb2.CreateLeaseRequest(parent=f"namespaces/{self.namespace}", lease=lease)
            return (await stub.CreateLease(request, timeout=CALL_SECONDS)).name.rpartition("/")[2]

        return trio.run(self._as_client, client, create)

    def release(self, client: Path, lease: str) -> None:
        """Give it back."""

        async def delete(stub: ClientServiceStub) -> str:
            request = client_pb2.DeleteLeaseRequest(name=f"namespaces/{self.namespace}/leases/{lease}")
            await stub.DeleteLease(request, timeout=CALL_SECONDS)
            return ""

        trio.run(self._as_client, client, delete)

    async def _as_client(self, client: Path, ask: Callable[[ClientServiceStub], Awaitable[T]]) -> T:
        config = yaml.safe_load(client.read_text())
        metadata = config["metadata"]
        identity = Identity(Kind.CLIENT, metadata["namespace"], metadata["name"], config["token"])
        async with open_controller(config["endpoint"], Trust(ca=config["tls"]["ca"]), identity) as channel:
            return await ask(ClientServiceStub(channel))

    def ready_seconds(self, client: Path, board: str) -> float:
        """From the wish for a lease of that board until its exporter says that it is ready; it is given back."""
        took = trio.run(self._as_client, client, partial(_ready_seconds, board=board))
        self.until_available()
        return took

    def until_available(self) -> None:
        """Wait until every exporter is ready for a lease."""
        end = time.monotonic() + CALL_SECONDS
        while not all(one.status == "AVAILABLE" for one in trio.run(self.exporter_objects)):
            if time.monotonic() > end:
                raise RuntimeError("an exporter is not available any more")
            time.sleep(0.1)

    async def exporter_objects(self) -> Sequence[lab_pb2.Object]:
        async with open_channel(await connect_unix(self.data / "admin.sock")) as channel:
            request = lab_pb2.ListRequest(kind=Kind.EXPORTER.value, namespace=self.namespace)
            reply = await lab_grpc.AdminServiceStub(channel).List(request, timeout=CALL_SECONDS)
        return reply.objects

    def worker(self, script: Path, *arguments: str | Path, **environment: str) -> Worker:
        """A process of this environment that does what it is told, until the lab ends."""
        # -P: the folder of the scripts has modules whose names are not meant for them.
        command = [exporters.scripts() / "python", "-P", script, *arguments]
        return self.stack.enter_context(Worker(command, self.environment | environment))


async def _ready_seconds(stub: ClientServiceStub, *, board: str) -> float:
    lease = client_pb2.Lease(selector=f"board={board}", duration=Duration(seconds=3600))
    everything = client_pb2.ListExportersRequest(parent="namespaces/default", filter=f"board={board}")
    start = time.perf_counter()
    made = await stub.CreateLease(client_pb2.CreateLeaseRequest(parent="namespaces/default", lease=lease))
    with trio.fail_after(CALL_SECONDS):
        while True:
            (exporter,) = (await stub.ListExporters(everything)).exporters
            if exporter.status == common_pb2.EXPORTER_STATUS_LEASE_READY:
                break
            await trio.sleep(0.002)
    took = time.perf_counter() - start
    await stub.DeleteLease(client_pb2.DeleteLeaseRequest(name=made.name), timeout=CALL_SECONDS)
    return took


@contextmanager
def lab(home: Path, *options: str) -> Iterator[Lab]:
    """A new lab in an empty folder, with more options of its controller."""
    home.mkdir()
    with ExitStack() as stack:
        opened = Lab(home, stack)
        opened.start_controller(*OPTIONS, *options)
        yield opened


def cpu_seconds(pid: int) -> float:
    """What a process has used so far, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
