"""A controller's services over a connection in memory, with a store on the disk and the test's clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import duration_pb2
from jumpstarter_proto.client.v1 import client_grpc, client_pb2
from jumpstarter_proto.lab.v1 import boards_grpc, exporter_grpc, exporters_grpc, lab_grpc, lab_pb2
from jumpstarter_proto.remote import Identity, Kind
from jumpstarter_proto.rpc import Server, open_channel
from jumpstarter_proto.v1 import jumpstarter_grpc
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb

from jumpstarter_controller.app import open_audit_log
from jumpstarter_controller.audit import AuditLog
from jumpstarter_controller.identity import Authenticator, TokenIssuer
from jumpstarter_controller.lab import Key
from jumpstarter_controller.process.data_folder import Addresses, DataFolder
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.services import (
    BoardService,
    CallAuthenticator,
    CallReports,
    ClientService,
    ControllerService,
    DialQueues,
    ExporterService,
    ExporterStreams,
    HealthReports,
    LabService,
    Rendezvous,
    Router,
    Routers,
)
from jumpstarter_controller.services.admin_service import AdminService
from jumpstarter_controller.services.changes import MAX_LEASES_PER_CLIENT
from jumpstarter_controller.services.credentials import CredentialIssuer
from jumpstarter_controller.store import SqliteStore

SIGNING = ec.generate_private_key(ec.SECP256R1())
ANN, ONE = Key("default", "ann"), Key("default", "one")


def token_for(seconds: float, about: Mapping[str, str]) -> str:
    """A router's token that says what it is for."""
    return f"{seconds:.0f} {about['lease']} {about['exporter']}"


@dataclass
class Lab:
    reconciler: Reconciler
    issuer: TokenIssuer
    controller: jumpstarter_grpc.ControllerServiceStub
    client: client_grpc.ClientServiceStub
    admin: lab_grpc.AdminServiceStub
    details: exporters_grpc.LabServiceStub
    exporter: exporter_grpc.ExporterServiceStub
    boards: boards_grpc.BoardServiceStub
    journal: AuditLog

    async def made(self, kind: Kind, key: Key) -> Identity:
        request = lab_pb2.CreateRequest(kind=kind.value, namespace=key.namespace, name=key.name)
        return self.identity((await self.admin.Create(request)).token, kind, key)

    @staticmethod
    def identity(token: str, kind: Kind, key: Key) -> Identity:
        return Identity(kind, key.namespace, key.name, token)

    async def leased(self, ann: Identity, one: Identity) -> str:
        """A lease of ann on one, which is not ready for it yet."""
        reports = [pb.DriverInstanceReport(uuid="1")]
        await self.controller.Register(pb.RegisterRequest(reports=reports), metadata=one.metadata())
        await self.report(one, "AVAILABLE")
        request = client_pb2.CreateLeaseRequest(
            parent="namespaces/default",
            lease_id="mine",
            lease=client_pb2.Lease(exporter_name="one", duration=duration_pb2.Duration(seconds=600)),
        )
        lease = await self.client.CreateLease(request, metadata=ann.metadata())
        assert lease.exporter, lease
        return "mine"

    async def report(self, one: Identity, status: str) -> None:
        request = pb.ReportStatusRequest(status=f"EXPORTER_STATUS_{status}")
        await self.controller.ReportStatus(request, metadata=one.metadata())


@pytest.fixture
def max_leases() -> int:
    """Of a client; a module of tests may have another number."""
    return MAX_LEASES_PER_CLIENT


@pytest.fixture
async def lab(tmp_path: Path, max_leases: int) -> AsyncIterator[Lab]:
    store = SqliteStore(tmp_path / "lab.sqlite")

    def clock() -> float:
        return 1000.0 + trio.current_time()

    reconciler = Reconciler(store, clock=clock)
    issuer = TokenIssuer(SIGNING, "lab:1", clock=clock)
    auth = CallAuthenticator(reconciler, Authenticator(issuer))
    credentials = CredentialIssuer(issuer, Addresses("lab:1"))
    routers = Routers([Router("router:1")], token_for)
    streams = ExporterStreams(reconciler, auth)
    health = HealthReports(reconciler)
    journal = open_audit_log(DataFolder(tmp_path), reconciler)
    server = Server(
        [
            ControllerService(
                reconciler, auth, Rendezvous(DialQueues()), routers, streams, max_leases=max_leases
            ),
            ExporterService(reconciler, streams, health, CallReports(reconciler, journal)),
            ClientService(reconciler, auth, credentials.token, max_leases),
            LabService(reconciler, auth, health),
            AdminService(reconciler, credentials, journal),
            BoardService(reconciler, auth, credentials),
        ]
    )
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        await nursery.start(reconciler.run)
        nursery.start_soon(server.serve_connection, far)
        async with open_channel(near) as channel:
            yield Lab(
                reconciler,
                issuer,
                jumpstarter_grpc.ControllerServiceStub(channel),
                client_grpc.ClientServiceStub(channel),
                lab_grpc.AdminServiceStub(channel),
                exporters_grpc.LabServiceStub(channel),
                exporter_grpc.ExporterServiceStub(channel),
                boards_grpc.BoardServiceStub(channel),
                journal,
            )
        nursery.cancel_scope.cancel()
    store.close()
