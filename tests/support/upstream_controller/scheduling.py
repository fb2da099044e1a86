"""Exporters and leases, and what 0.9.0's reconcilers make of them. No I/O, no clock.

Left out is what no test of ours needs: access policies, disabled exporters, set-based selectors, leases that begin
later, and ended exporters' tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

ONLINE_SECONDS = 60.0
"""An exporter that has not been seen for so long is offline."""
LEASABLE = ("", "UNSPECIFIED", "AVAILABLE")
DIALLABLE = ("", "UNSPECIFIED", "LEASE_READY", "BEFORE_LEASE_HOOK", "AFTER_LEASE_HOOK")
REFUSALS = {
    "OFFLINE": "exporter is offline",
    "BEFORE_LEASE_HOOK_FAILED": "exporter beforeLease hook failed",
    "AFTER_LEASE_HOOK_FAILED": "exporter afterLease hook failed",
}


@dataclass
class ExporterObject:
    """What the controller has of an exporter."""

    name: str
    labels: dict[str, str]
    status: str = ""
    """Without its prefix; empty before the first report, and when an Offline was cleared."""
    message: str = ""
    seen: float | None = None
    devices: int = 0
    unregistered: int = 0
    """How often, for tests."""
    statuses: list[tuple[str, str]] = field(default_factory=list)
    """All that it has reported, for tests."""

    def report(self, status: str, message: str, now: float) -> None:
        """It says how it is."""
        self.status, self.message, self.seen = status, message, now
        self.statuses.append((status, message))

    def connect(self, now: float) -> None:
        """Its status stream begins: it was wrong that it is offline."""
        self.seen = now
        if self.status == "OFFLINE":
            self.status = ""

    def is_online(self, now: float) -> bool:
        """As its reconciler computes it, which forces the status of one that is silent."""
        if self.seen is not None and now - self.seen > ONLINE_SECONDS:
            self.status = "OFFLINE"
        return self.seen is not None and self.status != "OFFLINE"


@dataclass
class Condition:
    status: str
    reason: str
    message: str


@dataclass
class LeaseObject:
    """A lease's specification, and what came of it."""

    name: str
    client: str
    selector: Mapping[str, str]
    wanted: str
    """The exporter that was asked for by name, or empty."""
    seconds: float
    release: bool = False
    exporter: str = ""
    begin: float | None = None
    end: float | None = None
    conditions: dict[str, Condition] = field(default_factory=dict)
    """By type, in the order in which they first appeared."""

    @property
    def is_ended(self) -> bool:
        return self.end is not None

    def become(self, kind: str, status: str, reason: str, message: str) -> None:
        """Update a condition in its place; `Pending` is never set back."""
        self.conditions[kind] = Condition(status, reason, message)


def reconcile(
    lease: LeaseObject,
    leases: Iterable[LeaseObject],
    exporters: Mapping[str, ExporterObject],
    *,
    now: float,
    wall: float,
) -> None:
    """One turn of the lease's reconciler. `now` is a monotonic time, `wall` the time of day."""
    if lease.is_ended:
        return
    if not lease.exporter and not lease.release:
        _choose(lease, leases, exporters, now=now, wall=wall)
        if lease.is_ended:
            return
    if lease.exporter and lease.begin is None:
        lease.begin = wall
        lease.become("Ready", "True", "Ready", "An exporter has been acquired for the client")
    if lease.release:
        _end(lease, "Released", "The lease was marked for release", wall)
    elif lease.begin is not None and wall > lease.begin + lease.seconds:
        _end(lease, "Expired", "The lease has expired", wall)


def _end(lease: LeaseObject, reason: str, message: str, wall: float) -> None:
    lease.become("Ready", "False", reason, message)
    lease.end = wall


def _choose(
    lease: LeaseObject,
    leases: Iterable[LeaseObject],
    exporters: Mapping[str, ExporterObject],
    *,
    now: float,
    wall: float,
) -> None:
    if not lease.selector and not lease.wanted:
        lease.become("Invalid", "True", "InvalidSelector", "The selector is empty")
        lease.end = wall
        return
    found = [one for one in exporters.values() if lease.selector.items() <= one.labels.items()]
    if lease.wanted:
        found = [one for one in found if one.name == lease.wanted]
    if not found:
        reason = "ExporterNotFound" if lease.wanted else "NoAccess"
        lease.become("Unsatisfiable", "True", reason, "There are no exporters that it may have")
        lease.end = wall
        return
    online = [one for one in found if one.devices and one.is_online(now)]
    leased = {one.exporter for one in leases if not one.is_ended and one is not lease}
    free = [one for one in online if one.name not in leased]
    ready = [one for one in free if one.status in LEASABLE]
    if not online:
        lease.become("Pending", "True", "Offline", "None of the matching exporters is online")
    elif not free:
        lease.become("Pending", "True", "NotAvailable", "All matching exporters are leased already")
    elif not ready:
        lease.become("Pending", "True", "NotReady", "None of the matching exporters is ready")
    else:
        lease.exporter = min(one.name for one in ready)


def dial_refusal(status: str) -> str:
    """Why a client may not dial an exporter with that status; empty if they may, or have to wait."""
    if status in (*DIALLABLE, "AVAILABLE"):
        return ""
    return REFUSALS.get(status, f"exporter not ready (status: {status})")
