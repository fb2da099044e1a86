"""How many leases a client may have is what its controller was told, whichever way they come to be a client's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from google.protobuf import duration_pb2
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.remote import Identity, Kind
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb
from jumpstarter_proto.v1 import kubernetes_pb2

from jumpstarter_controller.lab import Key
from jumpstarter_controller.services.conftest import ANN, ONE, Lab

MINE = "namespaces/default/leases/mine"


@pytest.fixture
def max_leases() -> int:
    return 1


async def create(lab: Lab, who: Identity) -> None:
    lease = client_pb2.Lease(exporter_name="one", duration=duration_pb2.Duration(seconds=60))
    request = client_pb2.CreateLeaseRequest(parent="namespaces/default", lease=lease)
    await lab.client.CreateLease(request, metadata=who.metadata())


async def request(lab: Lab, who: Identity) -> None:
    selector = kubernetes_pb2.LabelSelector(match_labels={"board": "rpi4"})
    asked = pb.RequestLeaseRequest(duration=duration_pb2.Duration(seconds=60), selector=selector)
    await lab.controller.RequestLease(asked, metadata=who.metadata())


async def give(lab: Lab, who: Identity) -> None:
    theirs = client_pb2.Lease(name=MINE, client="namespaces/default/clients/bob")
    await lab.client.UpdateLease(client_pb2.UpdateLeaseRequest(lease=theirs), metadata=who.metadata())


@pytest.mark.parametrize("way", [create, request, give])
async def test_one_more_is_refused(lab: Lab, way: Callable[[Lab, Identity], Awaitable[None]]) -> None:
    ann, one = await lab.made(Kind.CLIENT, ANN), await lab.made(Kind.EXPORTER, ONE)
    bob = await lab.made(Kind.CLIENT, Key("default", "bob"))
    await lab.leased(ann, one)
    if way is give:
        await create(lab, bob)
    with pytest.raises(RpcError, match="has 1 leases that have not ended, which is the limit") as refused:
        await way(lab, ann)
    assert refused.value.code is StatusCode.RESOURCE_EXHAUSTED
