"""What is kept of an exporter when it comes back, gets a new token, or says what makes no sense."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from google.protobuf import duration_pb2
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.lab.v1 import exporter_pb2, lab_pb2
from jumpstarter_proto.remote import Identity, Kind
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb

from jumpstarter_controller.audit.lease_owners import LeaseOwners
from jumpstarter_controller.lab import Draft, Exporter, ExporterStatus, PairingCode, UnavailableReason
from jumpstarter_controller.reconciler.counters import Counters
from jumpstarter_controller.services.call_reports import call_entry
from jumpstarter_controller.services.conftest import ANN, ONE, Lab
from jumpstarter_controller.services.device_reports import MAX_DEPTH, devices_of
from jumpstarter_controller.services.objects import NO_TOKEN, _forget_expired

REASON = exporter_pb2.Reason(code="local-use", sentence="in local use by ana")


async def busy(lab: Lab, status: str) -> Identity:
    """An exporter that has said why it is not available."""
    one = await lab.made(Kind.EXPORTER, ONE)
    register = pb.RegisterRequest(reports=[pb.DriverInstanceReport(uuid="1")])
    await lab.controller.Register(register, metadata=one.metadata())
    report = exporter_pb2.ReportStatusRequest(
        status=f"EXPORTER_STATUS_{status}", message="bye", reasons=[REASON]
    )
    await lab.exporter.ReportStatus(report, metadata=one.metadata())
    return one


def seen(lab: Lab) -> tuple[ExporterStatus, str, tuple[UnavailableReason, ...]]:
    record = lab.reconciler.committed.get(Exporter, ONE)
    assert record is not None
    return record.status, record.status_message, record.reasons


async def test_one_that_is_back_has_left_behind_why_it_was_away(lab: Lab) -> None:
    one = await busy(lab, "OFFLINE")
    assert seen(lab) == (
        ExporterStatus.OFFLINE,
        "bye",
        (UnavailableReason("local-use", "in local use by ana"),),
    )
    async with lab.controller.Status(pb.StatusRequest(), metadata=one.metadata()) as call:
        await call.receive()
        assert seen(lab) == (ExporterStatus.UNSPECIFIED, "", ())


async def test_one_without_a_token_is_away_for_that_alone(lab: Lab) -> None:
    await busy(lab, "AFTER_LEASE_HOOK")
    await lab.admin.Rotate(lab_pb2.ObjectRequest(kind="Exporter", namespace="default", name="one"))
    assert seen(lab) == (ExporterStatus.OFFLINE, NO_TOKEN, ())


async def test_a_status_that_is_none_is_refused_and_changes_nothing(lab: Lab) -> None:
    one = await busy(lab, "AFTER_LEASE_HOOK")
    before = seen(lab)
    report = pb.ReportStatusRequest(message="what")
    report.status = cast("Any", 99)
    with pytest.raises(RpcError, match="99 is not an exporter status") as refused:
        await lab.controller.ReportStatus(report, metadata=one.metadata())
    assert (refused.value.code, seen(lab)) == (StatusCode.INVALID_ARGUMENT, before)


def test_devices_are_kept_down_to_some_depth() -> None:
    reports = [pb.DriverInstanceReport(uuid="0")]
    reports += [
        pb.DriverInstanceReport(
            uuid=str(number + 1), parent_uuid=str(number), labels={"jumpstarter.dev/name": "d"}
        )
        for number in range(MAX_DEPTH + 3)
    ]
    found, omitted = devices_of(reports)
    assert (len(found), omitted) == (MAX_DEPTH, 3)
    assert found[-1].path == ".".join(["d"] * MAX_DEPTH)


def test_a_call_that_has_lasted_for_days_is_trusted() -> None:
    call = exporter_pb2.DeviceCall(device="power", method="on", seconds=10 * 86400.0, age_seconds=3600.0)
    entry = call_entry(call, ONE, 1e9, lambda _: None, None, owner_at=LeaseOwners().at)
    assert (entry.seconds, entry.time) == (864000.0, 1e9 - 3600)


def test_codes_that_have_expired_go_but_not_one_that_is_damaged() -> None:
    lab = Draft()
    code = PairingCode(namespace="lab", name="a", kind="Client", subject="ann", digest="d", expires=10.0)
    damaged, young = (
        PairingCode(namespace="lab", name=name, kind="Client", subject=name, digest=name, expires=expires)
        for name, expires in (("b", 5.0), ("c", 10.5))
    )
    for one in (code, damaged, young):
        lab.put(one)
    lab.damaged[PairingCode, damaged.key] = "somebody has damaged it"
    _forget_expired(lab, 10.0)
    assert sorted(one.name for one in lab.all(PairingCode)) == ["b", "c"]


async def test_calls_are_counted_by_their_method() -> None:
    counters = Counters()
    call = SimpleNamespace(method=SimpleNamespace(path="/a.Service/Call"))
    for _ in range(2):
        await counters.count(cast("ServerCall[Any, Any]", call))
    assert dict(counters.requests) == {"a.Service/Call": 2}


async def test_an_exporter_hears_of_the_next_one_who_waits_for_it_when_the_first_has_left(
    lab: Lab,
) -> None:
    one, ann = await busy(lab, "AFTER_LEASE_HOOK"), await lab.made(Kind.CLIENT, ANN)
    request = exporter_pb2.WatchAssignmentRequest()
    with trio.fail_after(20):  # it would look again by itself after half a minute
        async with lab.exporter.WatchAssignment(request, metadata=one.metadata()) as watch:
            assert await watch.receive() == exporter_pb2.Assignment()
            for name in ("first", "second"):
                lease = client_pb2.Lease(exporter_name="one", duration=duration_pb2.Duration(seconds=60))
                asked = client_pb2.CreateLeaseRequest(parent="namespaces/default", lease_id=name, lease=lease)
                await lab.client.CreateLease(asked, metadata=ann.metadata())
            assert (await watch.receive()).waiting_lease == "first"
            gone = client_pb2.DeleteLeaseRequest(name="namespaces/default/leases/first")
            await lab.client.DeleteLease(gone, metadata=ann.metadata())
            assert (await watch.receive()).waiting_lease == "second"
