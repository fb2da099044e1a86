"""A controller as a process that tests may kill, and calls to it as its administrator and as anybody else."""

from __future__ import annotations

import base64
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from jumpstarter_proto.client.v1.client_grpc import ClientServiceStub
from jumpstarter_proto.lab.v1 import lab_grpc, lab_pb2
from jumpstarter_proto.remote import Identity, Kind, Trust, open_controller
from jumpstarter_proto.rpc import Channel, connect_unix, open_channel

from tests.interop import exporters
from tests.interop.exporters import Daemon

CALL_SECONDS = 30.0
NAMESPACE = "default"
PARENT = f"namespaces/{NAMESPACE}"


@dataclass
class Controller:
    """`jumpstarter-controller run` on a folder, on the same port whenever it is started."""

    data: Path
    log: Path
    """Whose parent is for logs only: the data may be on a full disk."""
    more: list[str] = field(default_factory=list)
    port: int = field(default_factory=exporters.free_port)
    daemon: Daemon | None = None

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> exporters.Command:
        program = exporters.scripts() / "jumpstarter-controller"
        return [program, "run", "--data", self.data, "--listen", self.endpoint, *self.more]

    def start(self) -> None:
        self.log.mkdir(exist_ok=True)
        daemon = Daemon(self.command(), self.log)
        try:
            assert daemon.first_line() == f"Listening on {self.endpoint}"
        except BaseException:
            daemon.end()
            raise
        self.daemon = daemon

    @property
    def pid(self) -> int:
        assert self.daemon is not None
        return self.daemon.process.pid

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self.daemon is not None
        os.kill(self.pid, signal.SIGKILL)
        self.daemon.process.wait(60)
        self.daemon.end()
        self.daemon = None

    def stop(self) -> None:
        """SIGTERM, if it runs."""
        if self.daemon is not None:
            self.daemon.end()
            self.daemon = None

    def resident(self) -> int:
        """Bytes of memory that it holds now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @asynccontextmanager
    async def administration(self) -> AsyncIterator[lab_grpc.AdminServiceStub]:
        """Calls that need no token."""
        stream = await connect_unix(self.data / "admin.sock")
        async with open_channel(stream) as channel:
            yield lab_grpc.AdminServiceStub(channel)

    async def create(
        self, kind: Kind, name: str, namespace: str = NAMESPACE, **labels: str
    ) -> lab_pb2.Credential:
        """A new client or exporter."""
        request = lab_pb2.CreateRequest(kind=kind.value, namespace=namespace, name=name, labels=labels)
        async with self.administration() as admin:
            return await admin.Create(request, timeout=CALL_SECONDS)

    @asynccontextmanager
    async def channel(self, who: lab_pb2.Credential) -> AsyncIterator[Channel]:
        """A connection of whom that credential is for."""
        identity = Identity(Kind(who.kind), who.namespace, who.name, who.token)
        async with open_controller(self.endpoint, trust_of(who), identity) as channel:
            yield channel

    @asynccontextmanager
    async def client(self, who: lab_pb2.Credential) -> AsyncIterator[ClientServiceStub]:
        async with self.channel(who) as channel:
            yield ClientServiceStub(channel)


def trust_of(who: lab_pb2.Credential) -> Trust:
    return Trust(ca=base64.b64encode(who.ca.encode()).decode())


@contextmanager
def controller(home: Path, data: Path | None = None, more: list[str] | None = None) -> Iterator[Controller]:
    """One that runs until the block is left."""
    with ExitStack() as stack:
        made = Controller(data or home / "data", home / "log", more or [])
        stack.callback(made.stop)
        made.start()
        yield made
