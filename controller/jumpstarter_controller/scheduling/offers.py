"""Offers: a lease that its exporter has to accept before it begins. No I/O.

A lease is offered to exporters that can answer. Meanwhile no other lease gets the exporter, and the lease's duration
does not run. If the exporter declines or disconnects, the lease returns to its position in the queue. An exporter that
does not answer in time counts as disconnected until it reports AVAILABLE again.
"""

from __future__ import annotations

from msgspec.structs import replace

from jumpstarter_controller.lab import (
    NOT_ANSWERING,
    ConditionType,
    Draft,
    Exporter,
    ExporterStatus,
    Key,
    Lease,
    LeaseCondition,
    UnavailableReason,
)

__all__ = ["ANSWER_SECONDS", "accept", "assign", "update_offer", "withdraw"]

ANSWER_SECONDS = 30.0
"""How long an exporter has to accept or decline a lease."""


def assign(lease: Lease, exporter: Exporter, priority: int, now: float) -> Lease:
    """The lease with that exporter: offered, or begun at once if the exporter does not answer offers."""
    lease = replace(lease, exporter=exporter.name, priority=priority)
    if not exporter.answers:
        return accept(lease, now)
    asked = f"exporter {exporter.name} is being asked whether it accepts the lease"
    return replace(lease, offered=now).with_condition(
        LeaseCondition(ConditionType.PENDING, True, "Offered", asked, now)
    )


def accept(lease: Lease, now: float) -> Lease:
    """The lease, begun now. A lease that has begun is returned unchanged."""
    if lease.begun is not None:
        return lease
    ready = LeaseCondition(ConditionType.READY, True, "Ready", f"exporter {lease.exporter} is leased", now)
    return replace(lease, offered=None, begun=now).with_condition(ready)


def withdraw(lease: Lease) -> Lease:
    """The lease without its offer. A lease that has begun is returned unchanged."""
    return lease if lease.offered is None else replace(lease, exporter="", priority=0, offered=None)


def update_offer(draft: Draft, lease: Lease, is_there: bool, now: float) -> Lease:
    """Update an offered lease: accepted, expired or withdrawn. Returns the lease as it is then.

    `is_there` says whether its exporter is registered and online.
    """
    exporter = draft.get(Exporter, Key(lease.namespace, lease.exporter))
    if lease.offered is None:
        return lease
    if lease.begun is not None:  # written so by another process: it would be due for ever
        settled = replace(lease, offered=None)
    elif exporter is None or not is_there:
        settled = withdraw(lease)
    elif not exporter.answers:  # it reconnected with an older version
        settled = accept(lease, now)
    elif lease.offered > now:  # written while the clock was ahead
        settled = replace(lease, offered=now)
    elif now - lease.offered >= ANSWER_SECONDS:
        settled = withdraw(lease)
        why = f"it did not say within {ANSWER_SECONDS:.0f} s whether it takes lease {lease.name}"
        reasons = (UnavailableReason(NOT_ANSWERING, why),)
        draft.put(replace(exporter, status=ExporterStatus.OFFLINE, status_message=why, reasons=reasons))
    else:
        return lease
    draft.put(settled)
    return settled
