"""The state of a lease, parsed from its record, for people and for scripts. No I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jumpstarter_proto.client.v1 import client_pb2

from jumpstarter_client.controller.controller_client import short_name
from jumpstarter_client.times import format_duration, format_time, rfc3339

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.timestamp_pb2 import Timestamp
    from jumpstarter_proto.client.v1 import client_pb2 as pb

__all__ = [
    "LeasePhase",
    "LeaseProgress",
    "LeaseStatus",
    "as_data",
    "beginning",
    "describe",
    "expiry",
    "lease_progress",
    "lease_status",
    "remaining",
    "selector_of",
]


class LeasePhase(enum.Enum):
    """The phase of a lease while a command waits for it."""

    WAITING = "waiting"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True)
class LeaseProgress:
    """A phase and its message."""

    phase: LeasePhase
    message: str = ""
    exporter: str = ""
    """The name of the exporter, when ready."""


def lease_progress(lease: client_pb2.Lease) -> LeaseProgress:
    """Read the phase from the conditions of a lease."""
    name = lease.name.rpartition("/")[2]
    found = {one.type: one for one in lease.conditions}

    def said(kind: str, status: str) -> str | None:
        one = found.get(kind)
        return (one.message or one.reason) if one is not None and one.status == status else None

    if said("Ready", "True") is not None and lease.exporter:
        return LeaseProgress(LeasePhase.READY, "", lease.exporter.rpartition("/")[2])
    if (message := said("Unsatisfiable", "True")) is not None:
        return LeaseProgress(LeasePhase.FAILED, f"the lease cannot be satisfied: {message}")
    if (message := said("Invalid", "True")) is not None:
        return LeaseProgress(LeasePhase.FAILED, f"the lease is invalid: {message}")
    if (message := said("Ready", "False")) is not None:
        return LeaseProgress(LeasePhase.FAILED, f"lease {name} has ended: {message}; ask for a new one")
    if lease.HasField("effective_end_time"):
        return LeaseProgress(LeasePhase.FAILED, f"lease {name} has already ended; ask for a new one")
    return LeaseProgress(LeasePhase.WAITING, said("Pending", "True") or "waiting for the controller")


@dataclass(frozen=True)
class LeaseStatus:
    """The state of a lease: one word for scripts, one sentence for people."""

    state: str
    """`scheduled`, `waiting`, `ready`, `ended`, `unsatisfiable` or `invalid`."""
    sentence: str


def lease_status(lease: pb.Lease, now: float) -> LeaseStatus:
    """Read the state of a lease; `now` in seconds since the epoch."""
    found = {one.type: one for one in lease.conditions if one.status == "True"}
    progress = lease_progress(lease)
    if progress.phase is LeasePhase.READY:
        return LeaseStatus("ready", f"{progress.exporter} is leased")
    for kind in ("Unsatisfiable", "Invalid"):
        if kind in found:
            return LeaseStatus(kind.lower(), found[kind].message or found[kind].reason)
    if progress.phase is LeasePhase.FAILED:
        ready = next((one for one in lease.conditions if one.type == "Ready"), None)
        return LeaseStatus("ended", (ready.message or ready.reason) if ready else "it has ended")
    if lease.HasField("begin_time") and _stamp(lease.begin_time) > now:
        return LeaseStatus("scheduled", "it has not started yet")
    return LeaseStatus("waiting", progress.message)


def selector_of(lease: pb.Lease) -> str:
    """Return the selector; empty for a lease of a named exporter."""
    return "" if lease.selector == "<none>" else lease.selector


def beginning(lease: pb.Lease) -> float | None:
    """Return when the lease began or begins, in seconds since the epoch; None if that is not known yet."""
    if lease.HasField("effective_begin_time"):
        return _stamp(lease.effective_begin_time)
    return _stamp(lease.begin_time) if lease.HasField("begin_time") else None


def expiry(lease: pb.Lease) -> float | None:
    """Return when the lease ended or expires, in seconds since the epoch; None before it has a start."""
    if lease.HasField("effective_end_time"):
        return _stamp(lease.effective_end_time)
    if lease.HasField("end_time"):
        return _stamp(lease.end_time)
    if lease.HasField("effective_begin_time"):
        return _stamp(lease.effective_begin_time) + _seconds(lease.duration)
    if lease.HasField("begin_time"):
        return _stamp(lease.begin_time) + _seconds(lease.duration)
    return None


def remaining(lease: pb.Lease, now: float) -> float | None:
    """Return the seconds until the lease expires; None unless it is active.

    Uses the elapsed time of the controller if it is sent, so that a wrong local clock does not matter.
    """
    if lease.HasField("effective_end_time") or not lease.HasField("effective_begin_time"):
        return None
    begin = _stamp(lease.effective_begin_time)
    end = expiry(lease) or begin
    past = _seconds(lease.effective_duration) if lease.HasField("effective_duration") else now - begin
    return max(0.0, end - begin - past)


def as_data(lease: pb.Lease, now: float) -> dict[str, object]:
    """Return a lease as data: the keys of Jumpstarter's own client, and `state`, `reason` and `remaining`."""
    status = lease_status(lease, now)
    return {
        "namespace": lease.name.split("/")[1] if "/" in lease.name else "",
        "name": short_name(lease.name),
        "state": status.state,
        "reason": status.sentence,
        "selector": selector_of(lease),
        "exporter_name": lease.exporter_name or None,
        "client": short_name(lease.client),
        "exporter": short_name(lease.exporter),
        "duration": _seconds(lease.duration),
        "begin_time": _iso(lease, "begin_time"),
        "effective_begin_time": _iso(lease, "effective_begin_time"),
        "effective_end_time": _iso(lease, "effective_end_time"),
        "effective_duration": _seconds(lease.effective_duration)
        if lease.HasField("effective_duration")
        else None,
        "remaining": remaining(lease, now),
        "tags": dict(lease.tags),
        "context": dict(lease.context),
        "allow_disabled": lease.allow_disabled,
        "conditions": [
            {"type": one.type, "status": one.status, "reason": one.reason, "message": one.message}
            for one in lease.conditions
        ],
    }


def describe(lease: pb.Lease, now: float) -> list[str]:
    """Describe a lease in lines."""
    status = lease_status(lease, now)
    rows = [
        ("name", short_name(lease.name)),
        ("state", f"{status.state}: {status.sentence}"),
        ("client", short_name(lease.client)),
        ("exporter", short_name(lease.exporter)),
        ("asked for", _asked(lease)),
        ("duration", format_duration(_seconds(lease.duration))),
    ]
    if lease.HasField("effective_begin_time"):
        rows.append(("begun", format_time(_stamp(lease.effective_begin_time))))
    elif lease.HasField("begin_time"):
        rows.append(("begins", format_time(_stamp(lease.begin_time))))
    if (end := expiry(lease)) is not None:
        left = remaining(lease, now)
        word = "ended" if lease.HasField("effective_end_time") else "ends"
        rows.append((word, format_time(end) + (f", in {format_duration(left)}" if left is not None else "")))
    rows += [("tag", f"{key}={value}") for key, value in sorted(lease.tags.items())]
    rows += [("context", f"{key}={value}") for key, value in sorted(lease.context.items())]
    was_ready = any(one.type == "Ready" for one in lease.conditions)
    for one in lease.conditions:
        if one.type == "Pending" and one.status == "True" and was_ready:
            continue  # why it waited: the controllers of Jumpstarter and ours never take that back
        since = (
            f", since {format_time(one.lastTransitionTime.seconds)}" if one.lastTransitionTime.seconds else ""
        )
        holds = one.type if one.status == "True" else f"not {one.type}"
        rows.append(("condition", f"{holds} ({one.reason}): {one.message or one.reason}{since}"))
    return [f"{name + ':':<11} {text}" for name, text in rows if text]


def _asked(lease: pb.Lease) -> str:
    parts = [selector_of(lease), f"exporter {lease.exporter_name}" if lease.exporter_name else ""]
    if lease.allow_disabled:
        parts.append("also disabled exporters")
    return "; ".join(part for part in parts if part)


def _stamp(stamp: Timestamp) -> float:
    return float(stamp.seconds) + stamp.nanos / 1e9


def _seconds(duration: Duration) -> float:
    return float(duration.seconds) + duration.nanos / 1e9


def _iso(lease: pb.Lease, field: str) -> str | None:
    if not lease.HasField(field):
        return None
    return rfc3339(_stamp(getattr(lease, field)))
