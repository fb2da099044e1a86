"""A controller, its router and an exporter in this process, reached over real gRPC by way of a network in memory."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from google.protobuf import empty_pb2
from jumpstarter_proto.byte_streams.router_stream import RouterStream
from jumpstarter_proto.client.v1 import client_grpc
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.https import Reply
from jumpstarter_proto.remote import Identity, Kind, Trust
from jumpstarter_proto.rpc import RpcError, ServerCall, Servicer, StatusCode, serve_connection
from jumpstarter_proto.v1 import common_pb2, jumpstarter_grpc, jumpstarter_pb2, kubernetes_pb2, router_grpc

from jumpstarter_client.conftest import FakeExporter, FakeRouter
from jumpstarter_client.identity.client_config import ClientConfig

LAB = "namespaces/lab"
CONTROLLER, ROUTER = "controller.lab:8082", "router.lab:8083"
MOST_CALLS = 1000

Before = Callable[[], Awaitable[None]]


class Network:
    """Hosts by HOST:PORT. A connection is a pair of streams in memory; who is not in `hosts` refuses it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.hosts: dict[str, Sequence[Servicer]] = {}
        self.silent: set[str] = set()
        """Those of them that a connection is never made to."""
        self.opened: dict[str, int] = {}
        """How many connections each host has had."""
        self._nursery = nursery
        self._ends: dict[str, list[trio.abc.Stream]] = {}

    async def connect(self, host: str, port: int, *, timeout: float, **_: object) -> trio.abc.Stream:
        """In place of `connect_tcp`."""
        await trio.lowlevel.checkpoint()
        target = f"{host}:{port}"
        if target in self.silent:
            await trio.sleep(timeout)
            raise RpcError(StatusCode.UNAVAILABLE, f"{target} does not answer within {timeout:g} s")
        if target not in self.hosts:
            raise RpcError(StatusCode.UNAVAILABLE, f"cannot connect to {target}: Connection refused")
        ours, theirs = trio.testing.memory_stream_pair()
        self.opened[target] = self.opened.get(target, 0) + 1
        self._ends.setdefault(target, []).append(theirs)
        self._nursery.start_soon(serve_connection, theirs, self.hosts[target])
        return ours

    async def cut(self, target: str) -> None:
        """Break every connection to a host."""
        for end in self._ends.pop(target, []):
            await trio.aclose_forcefully(end)

    async def leave(self, target: str) -> Sequence[Servicer]:
        """Take a host away, with all its connections."""
        services = self.hosts.pop(target)
        await self.cut(target)
        return services


class FakeController(client_grpc.ClientServiceServicer):
    """Keeps leases, each ready at once. `before` is awaited before a method answers, and may raise or never end."""

    def __init__(self) -> None:
        self.leases: dict[str, pb.Lease] = {}
        self.released: list[str] = []
        self.asked: list[tuple[str, float]] = []
        """Each call: the method, and when it came."""
        self.before: dict[str, Before] = {}
        self.heard: dict[str, Before] = {}
        """The same, awaited when the method has done its work and has not answered yet."""
        self.is_ready = True
        self.seconds = 3600
        """Of each lease, from trio's own beginning of time."""

    def times(self, method: str) -> list[float]:
        return [when for name, when in self.asked if name == method]

    async def CreateLease(self, request: pb.CreateLeaseRequest, call: object) -> pb.Lease:  # noqa: N802
        await self.came("CreateLease")
        if request.lease_id in self.leases:
            raise RpcError(StatusCode.ALREADY_EXISTS, f"lease {request.lease_id} already exists")
        lease = self.add(request.lease_id)
        await self._done("CreateLease")
        return lease

    def add(self, name: str, client: str = "ann") -> pb.Lease:
        lease = pb.Lease(name=f"{LAB}/leases/{name}", client=f"{LAB}/clients/{client}")
        lease.duration.FromSeconds(self.seconds)
        self.leases[name] = lease
        if self.is_ready:
            self.make_ready(name)
        return lease

    def make_ready(self, name: str) -> None:
        lease = self.leases[name]
        lease.exporter = f"{LAB}/exporters/one"
        lease.effective_begin_time.FromSeconds(1)
        lease.effective_duration.FromSeconds(int(trio.current_time()))
        del lease.conditions[:]
        lease.conditions.append(kubernetes_pb2.Condition(type="Ready", status="True", reason="Ready"))

    def end(self, name: str, why: str) -> None:
        lease = self.leases[name]
        lease.effective_end_time.FromSeconds(2)
        del lease.conditions[:]
        lease.conditions.append(kubernetes_pb2.Condition(type="Ready", status="False", message=why))

    async def GetLease(self, request: pb.GetLeaseRequest, call: object) -> pb.Lease:  # noqa: N802
        await self.came("GetLease")
        name = request.name.rpartition("/")[2]
        if name not in self.leases:
            raise RpcError(StatusCode.NOT_FOUND, f'leases "{name}" not found')
        self.leases[name].effective_duration.FromSeconds(int(trio.current_time()))
        return self.leases[name]

    async def ListLeases(self, request: pb.ListLeasesRequest, call: object) -> pb.ListLeasesResponse:  # noqa: N802
        await self.came("ListLeases")
        return pb.ListLeasesResponse(leases=self.leases.values())

    async def DeleteLease(self, request: pb.DeleteLeaseRequest, call: object) -> empty_pb2.Empty:  # noqa: N802
        await self.came("DeleteLease")
        self.released.append(request.name.rpartition("/")[2])
        return empty_pb2.Empty()

    async def ListExporters(self, request: pb.ListExportersRequest, call: object) -> pb.ListExportersResponse:  # noqa: N802
        await self.came("ListExporters")
        names = {lease.exporter for lease in self.leases.values()} if request.filter == "board=rpi4" else ()
        return pb.ListExportersResponse(exporters=[pb.Exporter(name=name) for name in names])

    async def GetExporter(self, request: pb.GetExporterRequest, call: object) -> pb.Exporter:  # noqa: N802
        await self.came("GetExporter")
        return pb.Exporter(name=request.name, labels={"board": "rpi4"})

    async def came(self, method: str) -> None:
        self.asked.append((method, trio.current_time()))
        if len(self.asked) > MOST_CALLS:  # a clock that jumps does not move for who never sleeps
            raise RpcError(StatusCode.UNKNOWN, "this client asks without a pause")
        if method in self.before:
            await self.before[method]()

    async def _done(self, method: str) -> None:
        if method in self.heard:
            await self.heard.pop(method)()


class Dials(jumpstarter_grpc.ControllerServiceServicer):
    """The way to the board of any lease."""

    def __init__(self, controller: FakeController) -> None:
        self._controller = controller

    async def Dial(  # noqa: N802
        self, request: jumpstarter_pb2.DialRequest, call: object
    ) -> jumpstarter_pb2.DialResponse:
        await self._controller.came("Dial")
        return jumpstarter_pb2.DialResponse(router_endpoint=ROUTER, router_token=request.lease_name)


class Silent(Servicer):
    """Takes every call of these services, and never answers."""

    def __init__(self, *services: type[Servicer]) -> None:
        self.METHODS = tuple(method for service in services for method in service.METHODS)  # type: ignore[misc]

    def __getattr__(self, name: str) -> Callable[..., Awaitable[None]]:
        async def never(*_: object) -> None:
            await trio.sleep_forever()

        return never


class Tunnels(router_grpc.RouterServiceServicer):
    """A router at which the exporter has been waiting."""

    def __init__(self, exporter: FakeExporter) -> None:
        self._exporter = exporter

    async def Stream(self, call: ServerCall[Any, Any]) -> None:  # noqa: N802
        await call.send_initial_metadata()
        await serve_connection(RouterStream.server(call), [self._exporter, FakeRouter(self._exporter)])


class BoardExporter(FakeExporter):
    """One that is ready for its lease, and whose session can be ended."""

    def __init__(self) -> None:
        super().__init__()
        self.status = common_pb2.EXPORTER_STATUS_LEASE_READY
        self.message = ""
        self.after = common_pb2.EXPORTER_STATUS_AVAILABLE
        self.ended = 0
        self.log = []
        self.log_delay = 0.0
        self.breaks = trio.Event()
        """Set to break a connection, where somebody looks at it."""

    async def LogStream(self, request: empty_pb2.Empty, call: ServerCall[Any, Any]) -> None:  # noqa: N802
        await trio.sleep(self.log_delay)
        await super().LogStream(request, call)

    async def GetStatus(self, request: object, call: object) -> jumpstarter_pb2.GetStatusResponse:  # noqa: N802
        return jumpstarter_pb2.GetStatusResponse(status=self.status, message=self.message)

    async def EndSession(self, request: object, call: object) -> jumpstarter_pb2.EndSessionResponse:  # noqa: N802
        self.ended += 1
        self.status = self.after
        return jumpstarter_pb2.EndSessionResponse(success=True)


class FakeIssuer:
    """An OpenID provider, in place of HTTPS. Each answer of its token endpoint is awaited; one that is none waits."""

    url = "https://id.lab"

    def __init__(self) -> None:
        self.device: dict[str, object] = {"interval": 5}
        self.posts: list[tuple[dict[str, str], float]] = []
        """What the token endpoint was asked, and when."""
        self.answer: Callable[[], Awaitable[Reply]] = self.pending

    async def pending(self) -> Reply:
        return Reply(400, {"error": "authorization_pending"})

    async def fetch_json(self, url: str, ca: str = "", fields: Mapping[str, str] | None = None) -> Reply:
        """In place of `fetch_json`."""
        await trio.lowlevel.checkpoint()
        path = url.removeprefix(self.url)
        if path == "/.well-known/openid-configuration":
            parts = {f"{name}_endpoint": f"{self.url}/{name}" for name in ("token", "authorization")}
            parts["device_authorization_endpoint"] = f"{self.url}/device"
            return Reply(200, {"issuer": self.url, **parts})
        if path == "/device":
            device = {"device_code": "d", "user_code": "ABCD", "verification_uri": f"{self.url}/page"}
            return Reply(200, device | self.device)
        assert path == "/token"
        self.posts.append((dict(fields or {}), trio.current_time()))
        return await self.answer()


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> FakeIssuer:
    issuer = FakeIssuer()
    monkeypatch.setattr("jumpstarter_client.identity.oidc.provider.fetch_json", issuer.fetch_json)
    return issuer


@pytest.fixture
def network(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> Network:
    """An empty one. A test whose clock is to jump has to name `autojump_clock` itself."""
    network = Network(nursery)
    monkeypatch.setattr("jumpstarter_proto.remote.controller_channel.connect_tcp", network.connect)
    return network


@pytest.fixture(scope="session")
def trust() -> Trust:
    """Of an authority that nobody asks for a certificate, as there is no TLS in this network."""
    return Trust(ca=base64.b64encode(trustme.CA().cert_pem.bytes()).decode())


@pytest.fixture
def config(trust: Trust) -> ClientConfig:
    return ClientConfig(CONTROLLER, Identity(Kind.CLIENT, "lab", "ann", "a-token"), trust)


@pytest.fixture
def board() -> BoardExporter:
    return BoardExporter()


@pytest.fixture
def lab(network: Network, board: BoardExporter) -> FakeController:
    """A controller in the network, with a router that leads to `board`."""
    controller = FakeController()
    network.hosts[CONTROLLER] = [controller, Dials(controller)]
    network.hosts[ROUTER] = [Tunnels(board)]
    return controller
