"""Calls about leases, over the wire: what is listed, who may have which answer, and the words of a refusal."""

from __future__ import annotations

import logging

import pytest
from google.protobuf import duration_pb2
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.remote import Identity, Kind, ReasonCode, reason_of
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb
from jumpstarter_proto.v1 import kubernetes_pb2

from jumpstarter_controller.lab import Draft, Key, Lease
from jumpstarter_controller.services.client_service import MAX_PAGE_SIZE
from jumpstarter_controller.services.conftest import ANN, ONE, Lab

MINE = "namespaces/default/leases/mine"
BOB, TWO = Key("default", "bob"), Key("default", "two")


@pytest.fixture
async def ann(lab: Lab) -> Identity:
    return await lab.made(Kind.CLIENT, ANN)


@pytest.fixture
async def one(lab: Lab) -> Identity:
    return await lab.made(Kind.EXPORTER, ONE)


async def listed(lab: Lab, who: Identity, **how: object) -> list[str]:
    request = client_pb2.ListLeasesRequest(parent="namespaces/default", **how)  # type: ignore[arg-type]
    found = await lab.client.ListLeases(request, metadata=who.metadata())
    return [lease.name.rpartition("/")[2] for lease in found.leases]


async def test_leases_that_run_are_listed_unless_others_are_asked_for(
    lab: Lab, ann: Identity, one: Identity
) -> None:
    await lab.leased(ann, one)
    tagged = client_pb2.Lease(
        exporter_name="one", duration=duration_pb2.Duration(seconds=60), tags={"ci": "7"}
    )
    request = client_pb2.CreateLeaseRequest(parent="namespaces/default", lease_id="tagged", lease=tagged)
    await lab.client.CreateLease(request, metadata=ann.metadata())
    assert await listed(lab, ann) == ["mine", "tagged"]
    assert await listed(lab, ann, tag_filter="ci=7") == ["tagged"]
    await lab.client.DeleteLease(client_pb2.DeleteLeaseRequest(name=MINE), metadata=ann.metadata())
    assert await listed(lab, ann) == await listed(lab, ann, only_active=True) == ["tagged"]
    assert await listed(lab, ann, only_active=False) == ["mine", "tagged"]
    assert await listed(lab, ann, only_active=False, filter="jumpstarter.dev/lease-ended=true") == ["mine"]


async def test_a_page_has_a_bounded_number_of_leases(lab: Lab, ann: Identity) -> None:
    def write(records: Draft, _: float) -> None:
        for number in range(MAX_PAGE_SIZE + 1):
            records.put(Lease(namespace="default", name=f"l{number:04}", client="ann", ended=1.0))

    await lab.reconciler.change(write)
    request = client_pb2.ListLeasesRequest(
        parent="namespaces/default", only_active=False, page_size=MAX_PAGE_SIZE + 1
    )
    page = await lab.client.ListLeases(request, metadata=ann.metadata())
    assert (len(page.leases), page.next_page_token) == (MAX_PAGE_SIZE, f"l{MAX_PAGE_SIZE - 1:04}")
    request.page_token = page.next_page_token
    rest = await lab.client.ListLeases(request, metadata=ann.metadata())
    assert ([one.name.rpartition("/")[2] for one in rest.leases], rest.next_page_token) == (
        [f"l{MAX_PAGE_SIZE:04}"],
        "",
    )


async def test_the_older_calls_of_a_client(lab: Lab, ann: Identity, one: Identity) -> None:
    bob = await lab.made(Kind.CLIENT, BOB)
    selector = kubernetes_pb2.LabelSelector(match_labels={"board": "rpi4"})
    request = pb.RequestLeaseRequest(duration=duration_pb2.Duration(seconds=60), selector=selector)
    name = (await lab.controller.RequestLease(request, metadata=ann.metadata())).name
    record = lab.reconciler.committed.get(Lease, Key("default", name))
    assert record is not None
    assert (record.client, record.selector, record.duration) == ("ann", "board=rpi4", 60.0)
    await lab.leased(ann, one)
    found = await lab.controller.GetLease(pb.GetLeaseRequest(name="mine"), metadata=ann.metadata())
    assert (found.duration.seconds, bool(found.exporter_uuid)) == (600, True)
    for who, names in ((ann, ["mine"]), (bob, [])):
        answer = await lab.controller.ListLeases(pb.ListLeasesRequest(), metadata=who.metadata())
        assert answer.names == names, "one that can never be had has ended"
    with pytest.raises(RpcError, match="GetLease permission denied") as refused:
        await lab.controller.GetLease(pb.GetLeaseRequest(name="mine"), metadata=bob.metadata())
    assert (refused.value.code, reason_of(refused.value)) == (
        StatusCode.UNKNOWN,
        ReasonCode.NOT_YOURS.value,
    )


async def test_nobody_ends_or_listens_to_what_is_another_exporters(
    lab: Lab, ann: Identity, one: Identity
) -> None:
    two = await lab.made(Kind.EXPORTER, TWO)
    bob = await lab.made(Kind.CLIENT, BOB)
    await lab.leased(ann, one)
    release = pb.ReleaseLeaseRequest(name="mine")
    with pytest.raises(RpcError, match="is not held by exporter two") as refused:
        await lab.controller.ReleaseLease(release, metadata=two.metadata())
    assert refused.value.code is StatusCode.FAILED_PRECONDITION
    with pytest.raises(RpcError, match="ReleaseLease permission denied"):
        await lab.controller.ReleaseLease(release, metadata=bob.metadata())
    with pytest.raises(RpcError, match="not this exporter's"):
        async with lab.controller.Listen(
            pb.ListenRequest(lease_name="mine"), metadata=two.metadata()
        ) as call:
            await call.receive()
    report = pb.ReportStatusRequest(status="EXPORTER_STATUS_AVAILABLE", release_lease=True)
    await lab.controller.ReportStatus(report, metadata=two.metadata())
    lease = lab.reconciler.committed.get(Lease, Key("default", "mine"))
    assert lease is not None
    assert lease.active


@pytest.mark.parametrize(
    ("status", "said", "sentence"),
    [
        ("OFFLINE", "bye", "exporter is offline; it will be dialled when it is back"),
        ("BEFORE_LEASE_HOOK_FAILED", "exit code 3", "exporter beforeLease hook failed: exit code 3"),
        ("AFTER_LEASE_HOOK_FAILED", "", "exporter afterLease hook failed"),
    ],
)
async def test_why_a_board_cannot_be_reached(lab: Lab, status: str, said: str, sentence: str) -> None:
    ann, one = await lab.made(Kind.CLIENT, ANN), await lab.made(Kind.EXPORTER, ONE)
    await lab.leased(ann, one)
    report = pb.ReportStatusRequest(status=f"EXPORTER_STATUS_{status}", message=said)
    await lab.controller.ReportStatus(report, metadata=one.metadata())
    with pytest.raises(RpcError) as refused:
        await lab.controller.Dial(pb.DialRequest(lease_name="mine"), metadata=ann.metadata())
    assert (refused.value.code, refused.value.details) == (StatusCode.FAILED_PRECONDITION, sentence)
    reason = ReasonCode.NOT_READY if status == "OFFLINE" else ReasonCode.HOOK_FAILED
    assert reason_of(refused.value) == reason.value
    assert dict(lab.reconciler.counters.dials) == {"FAILED_PRECONDITION": 1}


async def test_a_board_whose_hook_has_failed_is_reached_while_it_listens_and_no_longer_than_its_lease(
    lab: Lab, ann: Identity, one: Identity
) -> None:
    """Its session says why it failed. The router's token counts for what is left of the lease."""
    await lab.leased(ann, one)
    await lab.report(one, "BEFORE_LEASE_HOOK_FAILED")
    async with lab.controller.Listen(pb.ListenRequest(lease_name="mine"), metadata=one.metadata()) as listen:
        await listen.initial_metadata()
        answer = await lab.controller.Dial(pb.DialRequest(lease_name="mine"), metadata=ann.metadata())
        heard = await listen.receive()
    assert (answer.router_endpoint, answer.router_token) == (heard.router_endpoint, heard.router_token)
    assert answer.router_endpoint == "router:1"
    seconds, lease, exporter = answer.router_token.split()
    assert 590 < float(seconds) <= 600
    assert (lease, exporter) == ("mine", "one")
    assert dict(lab.reconciler.counters.dials) == {"OK": 1}


async def test_an_exporter_of_jumpstarters_hears_what_its_hooks_need(
    lab: Lab, ann: Identity, one: Identity
) -> None:
    register = pb.RegisterRequest(reports=[pb.DriverInstanceReport(uuid="1")])
    await lab.controller.Register(register, metadata=one.metadata())
    await lab.report(one, "AVAILABLE")
    lease = client_pb2.Lease(
        exporter_name="one", duration=duration_pb2.Duration(seconds=60), context={"build": "7"}
    )
    request = client_pb2.CreateLeaseRequest(parent="namespaces/default", lease_id="mine", lease=lease)
    await lab.client.CreateLease(request, metadata=ann.metadata())
    async with lab.controller.Status(pb.StatusRequest(), metadata=one.metadata()) as call:
        assert await call.receive() == pb.StatusResponse(
            leased=True, lease_name="mine", client_name="ann", context={"build": "7"}
        )


async def test_what_an_exporter_audits_is_one_line_of_the_log(
    lab: Lab, one: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with lab.controller.AuditStream(metadata=one.metadata()) as call:
        await call.send(pb.AuditStreamRequest(severity="warn\n", message="\x1b[2J" + "x" * 10_000))
        await call.send_eof()
        await call.receive()
    (line,) = [record for record in caplog.records if record.getMessage().startswith("audit: ")]
    assert line.getMessage().startswith("audit: warn\\n \\x1b[2Jxxx")
    assert len(line.getMessage()) < 600
    assert vars(line)["exporter"] == "one"
