"""A lab that is drained: what runs goes on, what is asked for waits and says why, and no restart changes that."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TypeVar

import pytest
import trio
from google.protobuf import duration_pb2
from google.protobuf.message import Message
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.client.v1.client_grpc import CLIENT_SERVICE_CREATE_LEASE, CLIENT_SERVICE_GET_LEASE
from jumpstarter_proto.lab.v1 import exporters_pb2, lab_pb2
from jumpstarter_proto.remote import REASON, Identity, Kind, ReasonCode
from jumpstarter_proto.rpc import Method, RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2

from jumpstarter_controller.app import status_text
from jumpstarter_controller.lab import Drain, Key, Lease
from jumpstarter_controller.process.certificate_expiry import CertificateExpiry
from jumpstarter_controller.process.certificates import own_certificate
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.services.conftest import ANN, ONE, Lab
from jumpstarter_controller.store import SqliteStore

PARENT = "namespaces/default"
T = TypeVar("T", bound=Message)


async def people(lab: Lab) -> tuple[Identity, Identity]:
    """A client, and an exporter that is available."""
    ann, one = await lab.made(Kind.CLIENT, ANN), await lab.made(Kind.EXPORTER, ONE)
    reports = [jumpstarter_pb2.DriverInstanceReport(uuid="1")]
    await lab.controller.Register(jumpstarter_pb2.RegisterRequest(reports=reports), metadata=one.metadata())
    await lab.report(one, "AVAILABLE")
    return ann, one


def asked(name: str) -> pb.CreateLeaseRequest:
    lease = pb.Lease(exporter_name="one", duration=duration_pb2.Duration(seconds=600))
    return pb.CreateLeaseRequest(parent=PARENT, lease_id=name, lease=lease)


async def drain(lab: Lab, reason: str = "") -> lab_pb2.DrainState:
    return await lab.admin.DrainLab(lab_pb2.DrainLabRequest(reason=reason))


async def resume(lab: Lab) -> lab_pb2.DrainState:
    return await lab.admin.ResumeLab(lab_pb2.ResumeLabRequest())


async def get(lab: Lab, who: Identity, name: str) -> pb.Lease:
    return await lab.client.GetLease(
        pb.GetLeaseRequest(name=f"{PARENT}/leases/{name}"), metadata=who.metadata()
    )


async def trailed(lab: Lab, who: Identity, name: str) -> str:
    """The reason behind the answer to GetLease."""
    request = pb.GetLeaseRequest(name=f"{PARENT}/leases/{name}")
    return await _reason(lab, CLIENT_SERVICE_GET_LEASE, request, who)


async def _reason(lab: Lab, method: Method[T, pb.Lease], request: T, who: Identity) -> str:
    async with lab.client._channel.server_stream(method, request, metadata=who.metadata()) as call:
        async for _ in call:
            pass
        return next((str(value) for key, value in call.trailing_metadata if key == REASON), "")


def pending(lease: pb.Lease) -> str:
    return next(one.message for one in lease.conditions if one.type == "Pending")


async def test_what_runs_goes_on_and_what_is_asked_for_waits_until_the_lab_is_resumed(lab: Lab) -> None:
    ann, one = await people(lab)
    assert (await lab.client.CreateLease(asked("first"), metadata=ann.metadata())).exporter
    state = await drain(lab, "new kernel")
    assert (state.drained, state.active, state.waiting, state.reason) == (True, 1, 0, "new kernel")
    longer = pb.Lease(name=f"{PARENT}/leases/first", duration=duration_pb2.Duration(seconds=1200))
    await lab.client.UpdateLease(pb.UpdateLeaseRequest(lease=longer), metadata=ann.metadata())
    assert await _reason(lab, CLIENT_SERVICE_CREATE_LEASE, asked("second"), ann) == ReasonCode.DRAINED
    await lab.client.DeleteLease(pb.DeleteLeaseRequest(name=longer.name), metadata=ann.metadata())
    await lab.report(one, "AVAILABLE")
    second = await get(lab, ann, "second")
    assert (second.exporter, second.HasField("effective_end_time")) == ("", False)
    assert pending(second) == (
        "the lab is drained (new kernel): leases that run go on, and no lease begins until it is resumed; "
        "next in the queue"
    )
    assert await trailed(lab, ann, "second") == ReasonCode.DRAINED
    watched = exporters_pb2.WatchRequest(lease="second")
    async with lab.details.Watch(watched, metadata=ann.metadata()) as news:
        assert (await anext(news)).leases[0].reason == ReasonCode.DRAINED
        state = await resume(lab)
        assert (state.drained, state.active, state.waiting) == (False, 1, 0)
        while not (told := (await anext(news)).leases[0]).lease.exporter:
            pass
        assert told.reason == ""
    assert await trailed(lab, ann, "second") == ""
    assert (await get(lab, ann, "second")).exporter.endswith("/one")


async def test_it_stays_drained_in_the_next_process_and_who_waits_too(lab: Lab, tmp_path: Path) -> None:
    ann, _ = await people(lab)
    first = await drain(lab, "move")
    await lab.client.CreateLease(asked("mine"), metadata=ann.metadata())
    again = await drain(lab)
    assert (again.since, again.reason) == (first.since, "move")
    assert (await drain(lab, "another room")).reason == "another room"
    store = SqliteStore(tmp_path / "lab.sqlite")
    try:
        reconciler = Reconciler(store)
        async with trio.open_nursery() as nursery:
            await nursery.start(reconciler.run)
            await reconciler.change(lambda _draft, _now: None)
            drained = reconciler.committed.get(Drain, Drain.KEY)
            assert drained is not None
            assert drained.reason == "another room"
            lease = reconciler.committed.get(Lease, Key("default", "mine"))
            assert lease is not None
            assert (lease.exporter, lease.ended) == ("", None)
            own_certificate(tmp_path, [])
            end = CertificateExpiry(own_certificate(tmp_path, []))
            since = time.strftime("%Y-%m-%d %H:%M", time.localtime(drained.created))
            assert status_text(reconciler, lab.journal, end).startswith(
                f"drained since {since} (another room): no lease begins until `jumpstarter-controller resume`; "
            )
            nursery.cancel_scope.cancel()
    finally:
        store.close()


@pytest.mark.parametrize("reason", ["x" * 201, "two\nlines", "\x1b[2J"])
async def test_a_reason_that_users_cannot_be_shown_is_refused(lab: Lab, reason: str) -> None:
    with pytest.raises(RpcError, match="one line") as refused:
        await drain(lab, reason)
    assert refused.value.code is StatusCode.INVALID_ARGUMENT
    assert lab.reconciler.committed.get(Drain, Drain.KEY) is None


async def test_who_waits_for_the_last_lease_hears_of_its_end(lab: Lab) -> None:
    ann, _ = await people(lab)
    await lab.client.CreateLease(asked("first"), metadata=ann.metadata())
    await drain(lab)
    async with lab.admin.WatchDrain(lab_pb2.WatchDrainRequest()) as states:
        assert (await anext(states)).active == 1
        await lab.client.DeleteLease(
            pb.DeleteLeaseRequest(name=f"{PARENT}/leases/first"), metadata=ann.metadata()
        )
        assert (await anext(states)).active == 0
        with pytest.raises(StopAsyncIteration):
            await anext(states)


async def test_who_waits_in_the_line_keeps_nobody_waiting_for_the_last_lease(lab: Lab) -> None:
    ann, _ = await people(lab)
    await drain(lab)
    for name in ("first", "second"):
        await lab.client.CreateLease(asked(name), metadata=ann.metadata())
    state = await drain(lab)
    assert (state.active, state.waiting) == (0, 2)
    with trio.fail_after(10):
        async with lab.admin.WatchDrain(lab_pb2.WatchDrainRequest()) as call:
            assert [(one.active, one.waiting) async for one in call] == [(0, 2)]


async def test_who_waits_for_the_last_lease_hears_that_the_lab_is_resumed(lab: Lab) -> None:
    ann, _ = await people(lab)
    await lab.client.CreateLease(asked("first"), metadata=ann.metadata())
    await drain(lab)
    async with lab.admin.WatchDrain(lab_pb2.WatchDrainRequest()) as states:
        assert (await anext(states)).drained
        await resume(lab)
        assert not (await anext(states)).drained
        with pytest.raises(StopAsyncIteration):
            await anext(states)
