"""Two namespaces whose people, boards and leases have the same names: nobody sees or changes what is the other's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from google.protobuf import duration_pb2
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.lab.v1 import lab_pb2
from jumpstarter_proto.remote import Identity, Kind
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb

from jumpstarter_controller.lab import Key
from jumpstarter_controller.lab import Lease as Record
from jumpstarter_controller.services.conftest import Lab

HERE, THERE = "default", "elsewhere"
MINE = client_pb2.Lease(exporter_name="one", duration=duration_pb2.Duration(seconds=600))
POLICY = "boards"


@pytest.fixture
async def people(lab: Lab) -> dict[str, Identity]:
    """An ann in each namespace, who has the lease `mine` on the board `one` of hers."""
    found: dict[str, Identity] = {}
    for where in (HERE, THERE):
        found[where] = ann = await lab.made(Kind.CLIENT, Key(where, "ann"))
        one = await lab.made(Kind.EXPORTER, Key(where, "one"))
        request = pb.RegisterRequest(reports=[pb.DriverInstanceReport(uuid="1")])
        await lab.controller.Register(request, metadata=one.metadata())
        await lab.report(one, "AVAILABLE")
        asked = client_pb2.CreateLeaseRequest(parent=f"namespaces/{where}", lease_id="mine", lease=MINE)
        lease = await lab.client.CreateLease(asked, metadata=ann.metadata())
        assert lease.exporter == f"namespaces/{where}/exporters/one"
    return found


@pytest.mark.parametrize("where", [HERE, THERE])
async def test_a_client_sees_what_is_its_own(lab: Lab, people: dict[str, Identity], where: str) -> None:
    ann = people[where].metadata()
    exporters = client_pb2.ListExportersRequest(parent=f"namespaces/{where}")
    [found] = (await lab.client.ListExporters(exporters, metadata=ann)).exporters
    assert found.name == f"namespaces/{where}/exporters/one"
    for only_active in (True, False):
        leases = client_pb2.ListLeasesRequest(parent=f"namespaces/{where}", only_active=only_active)
        [lease] = (await lab.client.ListLeases(leases, metadata=ann)).leases
        assert lease.name == f"namespaces/{where}/leases/mine"
    assert (await lab.controller.ListLeases(pb.ListLeasesRequest(), metadata=ann)).names == ["mine"]


Asked = Callable[[Lab, Any], Awaitable[object]]
ASKED: dict[str, Asked] = {
    "ListExporters": lambda lab, ann: lab.client.ListExporters(
        client_pb2.ListExportersRequest(parent=f"namespaces/{THERE}"), metadata=ann
    ),
    "GetExporter": lambda lab, ann: lab.client.GetExporter(
        client_pb2.GetExporterRequest(name=f"namespaces/{THERE}/exporters/one"), metadata=ann
    ),
    "ListLeases": lambda lab, ann: lab.client.ListLeases(
        client_pb2.ListLeasesRequest(parent=f"namespaces/{THERE}"), metadata=ann
    ),
    "GetLease": lambda lab, ann: lab.client.GetLease(
        client_pb2.GetLeaseRequest(name=f"namespaces/{THERE}/leases/mine"), metadata=ann
    ),
    "CreateLease": lambda lab, ann: lab.client.CreateLease(
        client_pb2.CreateLeaseRequest(parent=f"namespaces/{THERE}", lease_id="another", lease=MINE),
        metadata=ann,
    ),
    "UpdateLease": lambda lab, ann: lab.client.UpdateLease(
        client_pb2.UpdateLeaseRequest(
            lease=client_pb2.Lease(
                name=f"namespaces/{THERE}/leases/mine", duration=duration_pb2.Duration(seconds=60)
            )
        ),
        metadata=ann,
    ),
    "DeleteLease": lambda lab, ann: lab.client.DeleteLease(
        client_pb2.DeleteLeaseRequest(name=f"namespaces/{THERE}/leases/mine"), metadata=ann
    ),
}
"""What a client asks of the namespace that is not its own."""


@pytest.mark.parametrize("what", ASKED)
async def test_a_client_is_refused_what_is_anothers(lab: Lab, people: dict[str, Identity], what: str) -> None:
    before = {one.key: one for one in lab.reconciler.committed.all(Record)}
    with pytest.raises(RpcError) as refused:
        await ASKED[what](lab, people[HERE].metadata())
    assert refused.value.code is StatusCode.PERMISSION_DENIED
    assert {one.key: one for one in lab.reconciler.committed.all(Record)} == before


@pytest.mark.parametrize("where", [HERE, THERE])
async def test_a_lease_that_is_given_back_is_the_callers_own(
    lab: Lab, people: dict[str, Identity], where: str
) -> None:
    await lab.controller.ReleaseLease(pb.ReleaseLeaseRequest(name="mine"), metadata=people[where].metadata())
    running = {
        one.namespace for one in lab.reconciler.committed.all(Record) if one.ended is None and not one.release
    }
    assert running == {HERE, THERE} - {where}


@pytest.mark.parametrize("where", ["", HERE, THERE])
async def test_who_runs_the_lab_sees_one_namespace_or_all(
    lab: Lab, people: dict[str, Identity], where: str
) -> None:
    expected = [where] if where else [HERE, THERE]
    for kind in (Kind.CLIENT, Kind.EXPORTER):
        found = await lab.admin.List(lab_pb2.ListRequest(kind=kind.value, namespace=where))
        assert [one.namespace for one in found.objects] == expected
    policies = [lab_pb2.Policy(namespace=one, name=POLICY, exporters="site") for one in (HERE, THERE)]
    await lab.admin.ApplyPolicies(lab_pb2.ApplyPoliciesRequest(policies=policies))
    said = await lab.admin.ListPolicies(lab_pb2.ListPoliciesRequest(namespace=where))
    assert [one.namespace for one in said.policies] == expected
