"""A lease to serve, and controllers that are reached in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import pytest
import trio
import trio.testing
import yaml
from jumpstarter_proto.call_metadata import SEQUENCE
from jumpstarter_proto.exporter_status import ExporterStatus
from jumpstarter_proto.remote import Identity, Kind, Trust
from jumpstarter_proto.rpc import RpcError, ServerCall, Servicer, open_channel, serve_connection
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb
from jumpstarter_proto.v1.jumpstarter_grpc import ControllerServiceServicer

from jumpstarter_exporter.config import ExporterConfig, load
from jumpstarter_exporter.config.board_devices import add_board
from jumpstarter_exporter.devices.inventory import Inventory
from jumpstarter_exporter.driver import Driver, export
from jumpstarter_exporter.registration.controller import ControllerConnection, RegistrationCalls
from jumpstarter_exporter.registration.lease_assignment import LeaseAssignment
from jumpstarter_exporter.registration.lease_server import LeaseServer

__all__ = ["ANN", "Board", "Call", "Configure", "Lab", "Tunnelled", "Wired", "lease_server", "serving"]

ANN = LeaseAssignment("mine", "ann")


@dataclass(kw_only=True, eq=False)
class Board(Driver):
    """A device with a call that takes its time, and whose hardware may vanish."""

    client: ClassVar[str] = "example.Client"
    latest: ClassVar[Board]
    """The object of the session that began last."""

    def __post_init__(self) -> None:
        super().__post_init__()
        Board.latest = self

    @export
    async def wait(self, seconds: float) -> str:
        await trio.sleep(seconds)
        return "done"

    @export(reads=True)
    async def look(self) -> str:
        return "fine"

    @export(reads=True)
    async def recordings_from(self) -> float:
        return self.visible_since

    @export
    async def fetch(self, url: str) -> None:
        async with self.read_resource({"kind": "presigned_request", "url": url, "method": "GET"}):
            pass

    @export
    def vanish(self) -> None:
        self.missing("it was unplugged")


Configure = Callable[..., ExporterConfig]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """An exporter with one `Board`; `configure(afterLease={"script": "true"})` has hooks."""

    def made(**hooks: dict[str, Any]) -> ExporterConfig:
        file = tmp_path / "exporter.yaml"
        document = {
            "apiVersion": "jumpstarter.dev/v1alpha1",
            "kind": "ExporterConfig",
            "metadata": {"namespace": "lab", "name": "one"},
            "endpoint": "lab:8082",
            "token": "token",
            "export": {"board": {"type": f"{Board.__module__}.{Board.__name__}"}},
            "hooks": hooks,
        }
        file.write_text(yaml.safe_dump(document))
        return load(file)

    return made


def lease_server(
    config: ExporterConfig, controller: ControllerConnection, assignment: LeaseAssignment
) -> LeaseServer:
    """One lease of a board that nobody has used before."""
    server = LeaseServer(config, add_board(Inventory(), config), controller, assignment)
    server.begin()
    return server


class Tunnelled(ControllerConnection):
    """Its tunnels end in memory; some wait for the exporter."""

    def __init__(self, *waiting: str, **failing: Exception) -> None:
        """`waiting`: the router's token of each; `failing`: tokens whose tunnel cannot be had, and why."""
        super().__init__("lab:8082", Trust(), Identity(Kind.EXPORTER, "lab", "one", "token"))
        self._waiting = [*waiting, *failing]
        self._failing = failing
        self._pairs = {token: trio.testing.memory_stream_pair() for token in waiting}
        self.connected: list[str] = []
        """Tokens of the tunnels that the exporter has asked for."""
        self.released: list[str] = []
        self.releasing: trio.Event | None = None
        """A lease that is given back waits for it."""
        self._arrived: Callable[[pb.ListenResponse], None]

    def near(self, token: str = "") -> trio.abc.Stream:
        """A client's end of that tunnel."""
        return self._pairs[token][0]

    def dial(self, token: str) -> None:
        """A client wants to be connected."""
        self._pairs.setdefault(token, trio.testing.memory_stream_pair())
        self._arrived(pb.ListenResponse(router_token=token))

    async def listen(self, lease: str, arrived: Callable[[pb.ListenResponse], None]) -> None:
        self._arrived = arrived
        for token in self._waiting:
            arrived(pb.ListenResponse(router_token=token))
        await trio.sleep_forever()

    async def release(self, lease: str) -> None:
        self.released.append(lease)
        if self.releasing is not None:
            await self.releasing.wait()

    @asynccontextmanager
    async def tunnel(self, connection: pb.ListenResponse) -> AsyncIterator[trio.abc.Stream]:
        token = connection.router_token
        self.connected.append(token)
        if token in self._failing:
            raise self._failing[token]
        yield self._pairs[token][1]


@asynccontextmanager
async def serving(server: LeaseServer) -> AsyncIterator[trio.Event]:
    """The lease has begun; the event is set when it is over, which the end of the block waits for."""
    over = trio.Event()

    async def run() -> None:
        await server.run()
        over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        yield over


Call: TypeAlias = ServerCall[Any, Any]


class Lab(ControllerServiceServicer):
    """A controller that writes down what it hears, and says what a test tells it to."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.devices: list[dict[str, str]] = []
        """The labels of each device in the last registration."""
        self.messages: list[str] = []
        """Of the reports of a status."""
        self.times: list[float] = []
        """When."""
        self.sequence: list[int] = []
        self.failures: list[RpcError] = []
        """Of the next reports of a status."""
        self.refusals: list[RpcError] = []
        """Of the next leases that are given back."""
        self.hold: trio.Event | None = None
        """Answers to reports of a status wait for it."""
        self.hold_registration: trio.Event | None = None
        """Answers to registrations wait for it."""
        self.breaks = trio.Event()
        """Set it to break every connection that there is, and put another in its place."""
        self.answers = True
        self.says: list[pb.StatusResponse | RpcError | None] = []
        """On the status stream; None ends it in good order."""
        self.dials: list[pb.ListenResponse | RpcError | float] = []
        """On the listen stream; a number is seconds of silence, after which it ends in good order."""
        self._news = trio.Event()
        self._read = 0

    def say(self, lease: str = "", client: str = "ann") -> None:
        """Lease it, now; or end the lease."""
        self.says.append(pb.StatusResponse(leased=bool(lease), lease_name=lease, client_name=client))
        self._happened()

    async def until(self, *words: str) -> None:
        """Wait until these have come, after those that were waited for before; others may come in between."""
        for one in words:
            while one not in self.heard[self._read :]:
                await self._news.wait()
            self._read = self.heard.index(one, self._read) + 1

    def _happened(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def _hear(self, words: str) -> None:
        self.heard.append(words)
        self.times.append(trio.current_time())
        self._happened()
        if not self.answers:
            await trio.sleep_forever()

    async def Register(self, request: pb.RegisterRequest, call: Call) -> pb.RegisterResponse:  # noqa: N802
        self.devices = [dict(one.labels) for one in request.reports if one.parent_uuid]
        await self._hear(f"register {len(request.reports)} {dict(request.labels)}")
        if self.hold_registration is not None:
            await self.hold_registration.wait()
        return pb.RegisterResponse(uuid="x")

    async def Unregister(self, request: pb.UnregisterRequest, call: Call) -> pb.UnregisterResponse:  # noqa: N802
        await self._hear("unregister")
        return pb.UnregisterResponse()

    async def ReportStatus(self, request: pb.ReportStatusRequest, call: Call) -> pb.ReportStatusResponse:  # noqa: N802
        self.sequence.append(int(call.header(SEQUENCE) or "0"))
        self.messages.append(request.message)
        await self._hear(ExporterStatus(request.status).name)
        if self.hold is not None:
            await self.hold.wait()
        if self.failures:
            raise self.failures.pop(0)
        return pb.ReportStatusResponse()

    async def ReleaseLease(self, request: pb.ReleaseLeaseRequest, call: Call) -> pb.ReleaseLeaseResponse:  # noqa: N802
        await self._hear(f"release {request.name}")
        if self.refusals:
            raise self.refusals.pop(0)
        return pb.ReleaseLeaseResponse()

    async def Status(self, request: pb.StatusRequest, call: Call) -> None:  # noqa: N802
        while True:
            while self.says:
                match self.says.pop(0):
                    case RpcError() as error:
                        raise error
                    case None:
                        return
                    case message:
                        await call.send(message)
            await self._news.wait()

    async def Listen(self, request: pb.ListenRequest, call: Call) -> None:  # noqa: N802
        await self._hear(f"listen {request.lease_name}")
        while self.dials:
            match self.dials.pop(0):
                case RpcError() as error:
                    raise error
                case float() as seconds:
                    await trio.sleep(seconds)
                    return
                case message:
                    await call.send(message)
        await trio.sleep_forever()


@pytest.fixture
def lab() -> Lab:
    return Lab()


class Wired(ControllerConnection):
    """Connections in memory instead of TLS."""

    def __init__(
        self, lab: Lab, token: str = "token", *, also: Sequence[Servicer] = (), **options: Any
    ) -> None:
        """`also` are services that the controller has beside Jumpstarter's."""
        identity = Identity(Kind.EXPORTER, "lab", "one", token)
        super().__init__("lab:8082", Trust(), identity, **options)
        self.lab = lab
        self._services = [lab, *also]
        self.opened = 0
        """Connections so far."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[RegistrationCalls]:
        self.opened += 1
        ours, theirs = trio.testing.memory_stream_pair()

        async def breaking(breaks: trio.Event) -> None:
            await breaks.wait()
            await trio.aclose_forcefully(theirs)

        with collapsed():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve_connection, theirs, self._services)
                nursery.start_soon(breaking, self.lab.breaks)
                async with open_channel(ours) as channel:
                    yield RegistrationCalls(channel, self._sequence, self._quoted)
                nursery.cancel_scope.cancel()
