"""Watchers that never read: they use little memory of a controller, and do not delay others."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from google.protobuf.duration_pb2 import Duration
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.client.v1.client_grpc import ClientServiceStub
from jumpstarter_proto.lab.v1 import exporters_grpc, lab_pb2
from jumpstarter_proto.lab.v1 import exporters_pb2 as pb
from jumpstarter_proto.remote import KEEPALIVE, Identity, Kind, open_controller
from jumpstarter_proto.rpc import RpcError, StatusCode

from tests.faults.controllers import CALL_SECONDS, PARENT, Controller, controller, trust_of

MEBIBYTE = 1024 * 1024
LEASES = 200
ROUNDS = 15
WATCHES = 60
MOST_GROWN = 40 * MEBIBYTE


@pytest.fixture
def lab() -> Iterator[Controller]:
    with tempfile.TemporaryDirectory(prefix="deaf-") as home, controller(Path(home)) as made:
        yield made


async def wish(lab: Controller, who: lab_pb2.Credential, number: int) -> None:
    """A lease with much to tell, and given back: each is a change for all who watch."""
    async with lab.client(who) as stub, trio.open_nursery() as nursery:
        await stub.ListLeases(client_pb2.ListLeasesRequest(parent=PARENT), timeout=CALL_SECONDS)

        async def one(name: str) -> None:
            lease = client_pb2.Lease(
                exporter_name="one",
                duration=Duration(seconds=3600),
                tags={f"key-{tag}": "x" * 63 for tag in range(8)},
            )
            request = client_pb2.CreateLeaseRequest(parent=PARENT, lease_id=name, lease=lease)
            await stub.CreateLease(request, timeout=CALL_SECONDS)
            if number < ROUNDS - 1:
                gone = client_pb2.DeleteLeaseRequest(name=f"{PARENT}/leases/{name}")
                await stub.DeleteLease(gone, timeout=CALL_SECONDS)

        for lease in range(LEASES):
            nursery.start_soon(one, f"lease-{number}-{lease}")


async def flood(lab: Controller) -> None:
    deaf, good = await lab.create(Kind.CLIENT, "deaf"), await lab.create(Kind.CLIENT, "good")
    await lab.create(Kind.EXPORTER, "one")
    await wish(lab, good, 0)
    before = lab.resident()
    everything = pb.WatchRequest(exporters=True, leases=pb.LEASE_SCOPE_ALL)
    identity = Identity(Kind.CLIENT, deaf.namespace, deaf.name, deaf.token)
    async with (
        open_controller(lab.endpoint, trust_of(deaf), identity, options=KEEPALIVE) as channel,
        trio.open_nursery() as nursery,
    ):
        await ClientServiceStub(channel).ListLeases(client_pb2.ListLeasesRequest(parent=PARENT))
        opened = 0

        async def open_one() -> None:
            nonlocal opened
            async with exporters_grpc.LabServiceStub(channel).Watch(everything) as call:
                await call.initial_metadata()
                opened += 1
                await trio.sleep_forever()  # and reads nothing

        for _ in range(WATCHES):
            nursery.start_soon(open_one)
        with trio.fail_after(CALL_SECONDS):
            while opened < WATCHES:
                await trio.sleep(0.05)
        for number in range(1, ROUNDS):
            await wish(lab, good, number)
        grown = lab.resident() - before
        assert grown < MOST_GROWN, f"{grown / MEBIBYTE:.0f} MiB more than before"
        with trio.fail_after(CALL_SECONDS):
            async with (
                lab.channel(good) as other,
                exporters_grpc.LabServiceStub(other).Watch(everything) as call,
            ):
                told = set[str]()
                while len(told) < LEASES:
                    news = await call.receive()
                    told |= {one.lease.name for one in news.leases}
        with pytest.raises(RpcError, match="deaf watches 64 times already") as refused:
            await more(exporters_grpc.LabServiceStub(channel), everything)
        assert refused.value.code is StatusCode.RESOURCE_EXHAUSTED
        nursery.cancel_scope.cancel()


async def more(stub: exporters_grpc.LabServiceStub, everything: pb.WatchRequest) -> None:
    """Watch, and once more, until it is too much."""
    async with stub.Watch(everything) as call:
        await call.receive()
        await more(stub, everything)


@pytest.mark.timeout(300)
def test_who_watches_and_never_reads(lab: Controller) -> None:
    trio.run(flood, lab)
    assert "Traceback" not in (lab.log / "jumpstarter-controller.log").read_text()
