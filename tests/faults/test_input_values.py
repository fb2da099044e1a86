"""Values that are too large, out of range or not text: each is refused with a sentence, and nothing is stored."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.client.v1.client_grpc import ClientServiceStub
from jumpstarter_proto.lab.v1 import lab_pb2
from jumpstarter_proto.remote import Kind
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb
from jumpstarter_proto.v1 import kubernetes_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ControllerServiceStub

from tests.faults.controllers import CALL_SECONDS, PARENT, Controller, controller

pytestmark = pytest.mark.timeout(300)
MUCH = "x" * 100_000
ESCAPE = "a\x1b[2J\nb\u202e"


@dataclass
class Lab:
    process: Controller
    ann: lab_pb2.Credential
    board: lab_pb2.Credential


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with tempfile.TemporaryDirectory(prefix="values-") as home, controller(Path(home)) as process:
        ann = trio.run(process.create, Kind.CLIENT, "ann")
        board = trio.run(process.create, Kind.EXPORTER, "board")
        yield Lab(process, ann, board)


def lease(**fields: Any) -> client_pb2.Lease:
    return client_pb2.Lease(**{"selector": "board=none", "duration": Duration(seconds=60), **fields})


def create(lease_id: str = "", **fields: Any) -> client_pb2.CreateLeaseRequest:
    return client_pb2.CreateLeaseRequest(parent=PARENT, lease_id=lease_id, lease=lease(**fields))


OF_CLIENTS: list[tuple[str, Any]] = [
    ("CreateLease", create(MUCH)),
    ("CreateLease", create(ESCAPE)),
    ("CreateLease", create("ü")),
    ("CreateLease", create(selector=MUCH)),
    ("CreateLease", create(selector=ESCAPE)),
    ("CreateLease", create(selector=",".join(f"k{n}!=x" for n in range(900)))),
    ("CreateLease", create(exporter_name=MUCH)),
    ("CreateLease", create(exporter_name=ESCAPE)),
    ("CreateLease", create(tags={f"t{n}": "v" for n in range(10_000)})),
    ("CreateLease", create(tags={"t": MUCH})),
    ("CreateLease", create(tags={ESCAPE: "v"})),
    ("CreateLease", create(context={"k": ESCAPE})),
    ("CreateLease", create(context={MUCH: "v"})),
    ("CreateLease", create(duration=Duration(seconds=315_576_000_000))),
    ("CreateLease", create(duration=Duration(seconds=2**63 - 1, nanos=2**31 - 1))),
    ("CreateLease", create(duration=Duration(seconds=-1))),
    ("CreateLease", create(duration=Duration(seconds=1, nanos=-(2**31)))),
    ("CreateLease", create(begin_time=Timestamp(seconds=2**63 - 1))),
    ("CreateLease", create(begin_time=Timestamp(seconds=-(2**63)))),
    ("CreateLease", create(end_time=Timestamp(seconds=253402300799, nanos=2**31 - 1))),
    ("CreateLease", client_pb2.CreateLeaseRequest(parent=MUCH, lease=lease())),
    ("CreateLease", client_pb2.CreateLeaseRequest(parent=PARENT)),
    ("GetLease", client_pb2.GetLeaseRequest(name=MUCH)),
    ("GetLease", client_pb2.GetLeaseRequest(name=f"{PARENT}/leases/{ESCAPE}")),
    ("GetExporter", client_pb2.GetExporterRequest(name=f"{PARENT}/exporters/{MUCH}")),
    ("GetExporter", client_pb2.GetExporterRequest(name=f"{PARENT}/exporters/a/b")),
    ("DeleteLease", client_pb2.DeleteLeaseRequest(name=f"{PARENT}/leases/{ESCAPE}")),
    ("UpdateLease", client_pb2.UpdateLeaseRequest(lease=lease(name=f"{PARENT}/leases/{MUCH}"))),
    ("ListLeases", client_pb2.ListLeasesRequest(parent=PARENT, filter=MUCH)),
    ("ListLeases", client_pb2.ListLeasesRequest(parent=PARENT, tag_filter=ESCAPE)),
    ("ListExporters", client_pb2.ListExportersRequest(parent=PARENT, filter="a in (")),
    ("RotateToken", client_pb2.RotateTokenRequest(parent=ESCAPE)),
]
OF_CLIENTS_BEFORE: list[tuple[str, Any]] = [
    ("Dial", pb.DialRequest(lease_name=ESCAPE)),
    ("Dial", pb.DialRequest()),
    ("GetLease", pb.GetLeaseRequest(name=MUCH)),
    ("RequestLease", pb.RequestLeaseRequest(duration=Duration(seconds=60))),
    (
        "RequestLease",
        pb.RequestLeaseRequest(
            duration=Duration(seconds=60),
            selector=kubernetes_pb2.LabelSelector(match_labels={ESCAPE: "v"}),
        ),
    ),
    (
        "RequestLease",
        pb.RequestLeaseRequest(
            duration=Duration(seconds=60),
            selector=kubernetes_pb2.LabelSelector(
                match_expressions=[
                    kubernetes_pb2.LabelSelectorRequirement(key="k", operator=ESCAPE, values=["v"])
                ]
            ),
        ),
    ),
]
OF_EXPORTERS: list[tuple[str, Any]] = [
    ("Register", pb.RegisterRequest(reports=[pb.DriverInstanceReport(uuid="x")] * 10_000)),
    ("Register", pb.RegisterRequest(labels={"jumpstarter.dev/name": MUCH})),
    ("Register", pb.RegisterRequest(labels={f"jumpstarter.dev/{ESCAPE}": "v"})),
    ("ReportStatus", pb.ReportStatusRequest(status=99)),  # type: ignore[arg-type]
    ("ReleaseLease", pb.ReleaseLeaseRequest(name=ESCAPE)),
    ("ReleaseLease", pb.ReleaseLeaseRequest(name=MUCH)),
]


async def refused(stub: Any, call: str, request: Any) -> None:
    with pytest.raises(RpcError) as error:
        await getattr(stub, call)(request, timeout=CALL_SECONDS)
    assert error.value.code not in {StatusCode.INTERNAL, StatusCode.DEADLINE_EXCEEDED, StatusCode.UNAVAILABLE}
    assert error.value.details.isprintable(), (call, error.value.details)
    assert 5 < len(error.value.details) < 1000, (call, error.value.details)


def test_clients(lab: Lab) -> None:
    async def ask() -> None:
        async with lab.process.channel(lab.ann) as channel:
            for call, request in OF_CLIENTS:
                await refused(ClientServiceStub(channel), call, request)
            for call, request in OF_CLIENTS_BEFORE:
                await refused(ControllerServiceStub(channel), call, request)
            everything = client_pb2.ListLeasesRequest(parent=PARENT, only_active=False)
            found = await ClientServiceStub(channel).ListLeases(everything, timeout=CALL_SECONDS)
            assert not found.leases, "something of it was kept"

    trio.run(ask)


def test_the_first_message_of_who_is_known_may_be_large_and_of_nobody_else(lab: Lab) -> None:
    reports = [
        pb.DriverInstanceReport(uuid=str(number), labels={"filler": "x" * 200}) for number in range(900)
    ]
    request = pb.RegisterRequest(reports=reports)
    assert request.ByteSize() > 3 * 65536

    async def register(board: lab_pb2.Credential) -> None:
        async with lab.process.channel(board) as channel:
            await ControllerServiceStub(channel).Register(request, timeout=CALL_SECONDS)

    trio.run(register, trio.run(lab.process.create, Kind.EXPORTER, "large"))
    nobody = lab_pb2.Credential()
    nobody.CopyFrom(lab.board)
    nobody.token = "no token"
    with pytest.raises(RpcError, match="unauthenticated caller") as error:
        trio.run(register, nobody)
    assert error.value.code is StatusCode.RESOURCE_EXHAUSTED


def test_exporters(lab: Lab) -> None:
    async def ask() -> None:
        async with lab.process.channel(lab.board) as channel:
            stub = ControllerServiceStub(channel)
            for call, request in OF_EXPORTERS:
                await refused(stub, call, request)
            # What they say of themselves is kept, as far as it is text.
            said = pb.ReportStatusRequest(status=2, message=ESCAPE + MUCH)  # type: ignore[arg-type]
            await stub.ReportStatus(said, timeout=CALL_SECONDS)
        async with lab.process.client(lab.ann) as client:
            request = client_pb2.GetExporterRequest(name=f"{PARENT}/exporters/board")
            found = await client.GetExporter(request, timeout=CALL_SECONDS)
            assert found.status_message.isprintable()
            assert len(found.status_message) < 1100

    trio.run(ask)


@pytest.mark.parametrize("token", ["", "nonsense", ESCAPE, MUCH, "~"])
@pytest.mark.parametrize("size", [0, 1, -1, 2**31 - 1, -(2**31)])
def test_any_page_is_a_page(lab: Lab, token: str, size: int) -> None:
    async def ask() -> None:
        async with lab.process.client(lab.ann) as client:
            leases = client_pb2.ListLeasesRequest(parent=PARENT, page_size=size, page_token=token)
            await client.ListLeases(leases, timeout=CALL_SECONDS)
            listed = client_pb2.ListExportersRequest(parent=PARENT, page_size=size, page_token=token)
            await client.ListExporters(listed, timeout=CALL_SECONDS)

    trio.run(ask)


def test_nothing_of_it_got_into_the_log_as_it_was(lab: Lab) -> None:
    log = (lab.process.log / "jumpstarter-controller.log").read_text()
    assert "Traceback" not in log
    assert all(line.isprintable() and len(line) < 2000 for line in log.splitlines())
