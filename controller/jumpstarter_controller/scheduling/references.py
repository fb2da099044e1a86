"""Makes leases consistent with the lease references of exporters. No I/O.

The reference in the exporter's record alone decides which lease has it. When a lease begins, the reference is written
first and the lease's status second; when it ends, the status first and the reference second. A crash in between, or
another writer, can leave the two inconsistent.
"""

from __future__ import annotations

from msgspec.structs import replace

from jumpstarter_controller.lab import ConditionType, Draft, Exporter, Key, Lease, LeaseCondition
from jumpstarter_controller.scheduling.store_evidence import StoreEvidence

__all__ = ["reconcile_references"]


def reconcile_references(draft: Draft, evidence: StoreEvidence, now: float) -> None:
    """Give each exporter to the lease that it references, and take it from all other leases."""
    for key in draft.at_odds():
        exporter = draft.get(Exporter, key)
        if exporter is None:
            continue  # the exporter was deleted: its lease ends
        lease = Key(exporter.namespace, exporter.lease)
        is_known = not exporter.lease or draft.get(Lease, lease) is not None
        if is_known or evidence.is_gone(draft, (Lease, lease)):
            _settle(draft, exporter, evidence, now)


def _settle(draft: Draft, exporter: Exporter, evidence: StoreEvidence, now: float) -> None:
    claims = [
        one
        for one in draft.open_leases()
        if (one.namespace, one.exporter) == (exporter.namespace, exporter.name)
    ]
    rightful = next((one for one in claims if one.name == exporter.lease), None)
    if rightful is None:  # records from before 0.2 have no reference
        rightful = min(claims, key=lambda one: (one.sequence, one.key), default=None)
        draft.put(replace(exporter, lease="" if rightful is None else rightful.name))
    for lease in claims:
        if lease is rightful:
            continue
        if lease.begun is None:
            draft.put(replace(lease, exporter="", priority=0, offered=None))
        elif evidence.is_current(Exporter, Lease):
            why = f"exporter {exporter.name} was leased to lease {exporter.lease} before"
            condition = LeaseCondition(ConditionType.READY, False, "Released", why, now)
            draft.put(replace(lease, ended=now).with_condition(condition))
