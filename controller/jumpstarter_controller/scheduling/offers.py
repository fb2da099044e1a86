"""A lease that an exporter is to accept or to decline, before it begins. No I/O.

Exporters that answer are offered a lease: nobody else gets the exporter meanwhile, and the lease's time does not run.
One that is declined, or whose exporter goes away, is in the queue again at its place, with its age. An exporter that
does not answer in time is as one that went away: it has to say again that it is available.
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
"""An exporter has so long to accept or decline a lease."""


def assign(lease: Lease, exporter: Exporter, priority: int, now: float) -> Lease:
    """The lease with that exporter: begun, or offered to one that answers."""
    lease = replace(lease, exporter=exporter.name, priority=priority)
    if not exporter.answers:
        return accept(lease, now)
    asked = f"exporter {exporter.name} is asked whether it takes the lease"
    return replace(lease, offered=now).with_condition(
        LeaseCondition(ConditionType.PENDING, True, "Offered", asked, now)
    )


def accept(lease: Lease, now: float) -> Lease:
    """The lease as it begins, now; one that has begun stays as it is."""
    if lease.begun is not None:
        return lease
    ready = LeaseCondition(ConditionType.READY, True, "Ready", f"exporter {lease.exporter} is leased", now)
    return replace(lease, offered=None, begun=now).with_condition(ready)


def withdraw(lease: Lease) -> Lease:
    """The lease without the exporter that it was offered to; one that has begun stays as it is."""
    return lease if lease.offered is None else replace(lease, exporter="", priority=0, offered=None)


def update_offer(draft: Draft, lease: Lease, is_there: bool, now: float) -> Lease:
    """What has become of an offer, if anything has; the lease as it is then.

    `is_there` says whether its exporter is registered and online.
    """
    exporter = draft.get(Exporter, Key(lease.namespace, lease.exporter))
    if lease.offered is None:
        return lease
    if exporter is None or not is_there:
        settled = withdraw(lease)
    elif not exporter.answers:  # an older version of it has come back
        settled = accept(lease, now)
    elif lease.offered > now:  # it was written by a clock that was ahead
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
