"""A lease that its exporter gives back ends with the exporter's reason, and the board is free for the next."""

from __future__ import annotations

import pytest
from jumpstarter_proto.remote import Kind
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb

from jumpstarter_controller.lab import Key, Lease
from jumpstarter_controller.services.conftest import ANN, ONE, Lab

REASON = "beforeLease hook failed (on_failure=endLease): Hook failed with exit code 3"


@pytest.mark.parametrize("way", ["release", "report", "done", "report done"])
async def test_why_it_was_given_back_is_its_reason(lab: Lab, way: str) -> None:
    """By its own call, or as exporters before 0.9 do it, with a status; without a failure there is no reason."""
    ann, one = await lab.made(Kind.CLIENT, ANN), await lab.made(Kind.EXPORTER, ONE)
    name = await lab.leased(ann, one)
    status = "AFTER_LEASE_HOOK" if "done" in way else "BEFORE_LEASE_HOOK_FAILED"
    report = pb.ReportStatusRequest(status=f"EXPORTER_STATUS_{status}", message=REASON)
    report.release_lease = "report" in way
    await lab.controller.ReportStatus(report, metadata=one.metadata())
    if "report" not in way:
        await lab.controller.ReleaseLease(pb.ReleaseLeaseRequest(name=name), metadata=one.metadata())
    lease = lab.reconciler.committed.get(Lease, Key("default", name))
    assert lease is not None
    assert lease.ended is not None
    assert lease.conditions[-1].message == ("it was released" if "done" in way else REASON)
    assert lab.reconciler.committed.holder(ONE) is None
