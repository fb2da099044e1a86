"""Which calls are of a command that waits for its lease."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from google.protobuf import duration_pb2
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.remote import WAITS, Identity, Kind
from jumpstarter_proto.rpc import RpcError
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb

from jumpstarter_controller.lab import Key, Lease
from jumpstarter_controller.scheduling import WAITER_SECONDS
from jumpstarter_controller.services.conftest import Lab


async def test_a_command_that_waits_is_heard_of_by_its_own_calls_alone(
    lab: Lab, mock_clock: trio.testing.MockClock
) -> None:
    """Others look at its lease, too, and so do lists; none of them waits for it."""
    ann = await lab.made(Kind.CLIENT, Key("default", "ann"))
    bob = await lab.made(Kind.CLIENT, Key("default", "bob"))
    one = await lab.made(Kind.EXPORTER, Key("default", "one"))
    waits = [(WAITS, "1")]
    await lab.leased(ann, one)

    async def ask(name: str, metadata: list[tuple[str, str]]) -> None:
        lease = client_pb2.Lease(exporter_name="one", duration=duration_pb2.Duration(seconds=600))
        request = client_pb2.CreateLeaseRequest(parent="namespaces/default", lease_id=name, lease=lease)
        await lab.client.CreateLease(request, metadata=[*ann.metadata(), *metadata])

    async def get(name: str, who: Identity, metadata: list[tuple[str, str]]) -> client_pb2.Lease:
        request = client_pb2.GetLeaseRequest(name=f"namespaces/default/leases/{name}")
        return await lab.client.GetLease(request, metadata=[*who.metadata(), *metadata])

    for name in ("killed", "alive"):
        await ask(name, waits)
    await ask("alone", [])
    for _ in range(10):
        await get("alive", ann, waits)
        await get("killed", ann, [])
        await get("killed", bob, waits)
        mock_clock.jump(WAITER_SECONDS / 5)
        await lab.reconciler.change(lambda *_: None)  # it has decided by then
    ended = {
        name: (await get(name, ann, [])).HasField("effective_end_time")
        for name in ("killed", "alive", "alone")
    }
    assert ended == {"killed": True, "alive": False, "alone": False}


async def test_who_dials_has_picked_it_up_and_who_extends_it_too(lab: Lab) -> None:
    ann = await lab.made(Kind.CLIENT, Key("default", "ann"))
    one = await lab.made(Kind.EXPORTER, Key("default", "one"))
    reports = [pb.DriverInstanceReport(uuid="1")]
    await lab.controller.Register(pb.RegisterRequest(reports=reports), metadata=one.metadata())

    async def made(name: str) -> None:
        await lab.report(one, "AVAILABLE")
        lease = client_pb2.Lease(exporter_name="one", duration=duration_pb2.Duration(seconds=600))
        request = client_pb2.CreateLeaseRequest(parent="namespaces/default", lease_id=name, lease=lease)
        assert (await lab.client.CreateLease(request, metadata=[*ann.metadata(), (WAITS, "1")])).exporter
        await lab.report(one, "LEASE_READY")

    def is_waited(name: str) -> bool:
        lease = lab.reconciler.committed.get(Lease, Key("default", name))
        assert lease is not None
        return lease.waited

    await made("dialled")
    with pytest.raises(RpcError, match="not listening"):  # which is another matter
        await lab.controller.Dial(pb.DialRequest(lease_name="dialled"), metadata=ann.metadata())
    with trio.fail_after(10):  # it would look again by itself after half a minute
        while is_waited("dialled"):
            await lab.reconciler.wait(Lease, Key("default", "dialled"), 1)
    request = pb.ReleaseLeaseRequest(name="dialled")
    await lab.controller.ReleaseLease(request, metadata=ann.metadata())
    await made("extended")
    assert is_waited("extended")
    longer = client_pb2.Lease(
        name="namespaces/default/leases/extended", duration=duration_pb2.Duration(seconds=900)
    )
    await lab.client.UpdateLease(client_pb2.UpdateLeaseRequest(lease=longer), metadata=ann.metadata())
    assert not is_waited("extended")
