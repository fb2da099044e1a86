"""The decisions about leases: which ends, which waits, which gets what. No I/O, no clock of its own.

Leases wait in one queue: the highest priority first, then the oldest. A lease passes one in front of it only
where that one could not have the exporter anyway. Conditions and their reasons are those of Jumpstarter's
controller.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from msgspec.structs import replace

from jumpstarter_controller.lab import (
    Client,
    Condition,
    ConditionType,
    Exporter,
    ExporterStatus,
    Key,
    Lab,
    Lease,
    View,
)
from jumpstarter_controller.scheduling.candidates import Candidates, Refusal, choices
from jumpstarter_controller.scheduling.presence import Presence

__all__ = ["READY_STATUSES", "Place", "Scheduler", "online"]

READY_STATUSES = frozenset((ExporterStatus.AVAILABLE, ExporterStatus.UNSPECIFIED))
"""Of an exporter that can begin a lease; those before 0.8 report none."""


@dataclass(frozen=True)
class Place:
    """Where a lease stands in the queue."""

    number: int
    """1 is next."""
    seconds: float | None
    """Until it would get an exporter if all leases in front of it last as long as they may; None: unknown."""


def online(exporter: Exporter, presence: Presence, now: float) -> bool:
    """Whether it is registered and there."""
    return (
        exporter.devices > 0
        and exporter.status is not ExporterStatus.OFFLINE
        and presence.is_fresh(exporter.key, now)
    )


class Scheduler:
    """Reconciles a lab with the time. It keeps nothing that a restart would lose, but what it found out already."""

    def __init__(self, presence: Presence) -> None:
        self.presence = presence
        self._choices: dict[tuple[object, ...], Candidates | Refusal] = {}
        self._shape = (-1, -1)

    def reconcile(self, lab: Lab, now: float) -> float | None:
        """Make all decisions that are due; the time when the next one will be, None if nothing waits for time."""
        self._note_absence(lab, now)
        waiting = []
        due = []
        for lease in lab.open_leases():
            lease = _ended(lab, lease, now) or lease  # noqa: PLW2901 - the same lease
            if lease.ended is not None:
                lab.put(lease)
                continue
            if lease.expiry is not None:
                due.append(lease.expiry)
            if not lease.exporter:
                if lease.begin_time is not None and lease.begin_time > now:
                    due.append(lease.begin_time)
                else:
                    waiting.append(lease)
        due += self._place(lab, waiting, now)
        if (loss := self.presence.next_loss(now)) is not None:
            due.append(loss + 0.001)
        return min(due, default=None)

    def _note_absence(self, lab: Lab, now: float) -> None:
        """Exporters that have not been heard of are offline, whatever they last said."""
        for exporter in list(lab.all(Exporter)):
            if (
                exporter.status is not ExporterStatus.OFFLINE
                and exporter.devices
                and not self.presence.is_fresh(exporter.key, now)
            ):
                lab.put(
                    replace(
                        exporter,
                        status=ExporterStatus.OFFLINE,
                        status_message="nothing was heard of it for a minute",
                    )
                )

    def _place(self, lab: Lab, waiting: list[Lease], now: float) -> list[float]:
        """Give exporters to those who wait; the expiries of those who got one."""
        expiries = []
        queue = []
        for lease in waiting:
            found = self.choices(lab, lease)
            if isinstance(found, Refusal):
                lab.put(_with(replace(lease, ended=now), found.condition(now)))
            else:
                queue.append((lease, found))
        queue.sort(key=_rank)
        free = self._free(lab, now) if queue else set()
        for lease, found in queue:
            chosen = [one for one in found.exporters if one[0] in free]
            if not chosen:
                lab.put(_with(lease, self._pending(lab, found, now)))
                continue
            # The best priority first, then one whose connection is open now, then by name.
            exporter, priority = min(
                chosen, key=lambda one: (-one[1], not self.presence.is_connected(one[0]), one[0])
            )
            free.discard(exporter)
            begun = replace(lease, exporter=exporter.name, priority=priority, begun=now)
            ready = Condition(ConditionType.READY, True, "Ready", f"exporter {exporter.name} is leased", now)
            lab.put(_with(begun, ready))
            expiries.append(begun.expiry or now)
        return expiries

    def choices(self, lab: View, lease: Lease) -> Candidates | Refusal:
        """`candidates.choices`, remembered while nothing changes that it depends on."""
        shape = (id(lab), lab.shape)
        if shape != self._shape:
            self._choices.clear()
            self._shape = shape
        request = (
            lease.namespace,
            lease.client,
            lease.selector,
            lease.exporter_name,
            lease.duration,
            lease.allow_disabled,
        )
        found = self._choices.get(request)
        if found is None:
            found = self._choices[request] = choices(lab, lease)
        return found

    def _free(self, lab: View, now: float) -> set[Key]:
        return {
            exporter.key
            for exporter in lab.all(Exporter)
            if exporter.status in READY_STATUSES
            and lab.holder(exporter.key) is None
            and online(exporter, self.presence, now)
        }

    def _pending(self, lab: View, found: Candidates, now: float) -> Condition:
        """Why a lease waits."""
        here = []
        for key, _ in found.exporters:
            exporter = lab.get(Exporter, key)
            if exporter is not None and online(exporter, self.presence, now):
                here.append(exporter)
        if not here:
            reason, message = "Offline", "none of the exporters that it may have is online"
        elif all(lab.holder(exporter.key) is not None for exporter in here):
            reason, message = "NotAvailable", "all exporters that it may have are leased"
        else:
            reason, message = "NotReady", "no exporter that it may have is ready yet"
        return Condition(ConditionType.PENDING, True, reason, message, now)

    def queue(self, lab: View, now: float) -> dict[Key, Place]:
        """The place and estimate of each lease that waits for an exporter."""
        queue = [
            (lease, found)
            for lease in lab.open_leases()
            if not lease.exporter
            and (lease.begin_time is None or lease.begin_time <= now)
            and isinstance(found := self.choices(lab, lease), Candidates)
        ]
        queue.sort(key=_rank)
        free_at: dict[Key, float | None] = {}
        ahead: Counter[frozenset[Key]] = Counter()
        places = {}
        for lease, found in queue:
            wants = frozenset(key for key, _ in found.exporters)
            for key in wants:
                if key not in free_at:
                    free_at[key] = self._free_at(lab, key, now)
            known = [(at, key) for key in sorted(wants) if (at := free_at[key]) is not None]
            number = 1 + sum(count for other, count in ahead.items() if not wants.isdisjoint(other))
            ahead[wants] += 1
            if not known:
                places[lease.key] = Place(number, None)
                continue
            at, key = min(known)
            places[lease.key] = Place(number, max(0.0, at - now))
            free_at[key] = max(at, now) + lease.duration
        return places

    def _free_at(self, lab: View, key: Key, now: float) -> float | None:
        exporter = lab.get(Exporter, key)
        if exporter is None or not online(exporter, self.presence, now):
            return None
        holder = lab.holder(key)
        return now if holder is None else holder.expiry


def _rank(waiting: tuple[Lease, Candidates]) -> tuple[int, float, Key]:
    lease, found = waiting
    return -found.priority, lease.created, lease.key


def _ended(lab: View, lease: Lease, now: float) -> Lease | None:
    """The lease as it ends now, None if it goes on."""
    if lease.release:
        reason, message = "Released", "it was released"
    elif lease.expiry is not None and lease.expiry <= now:
        reason, message = "Expired", "its time is over"
    elif lab.get(Client, Key(lease.namespace, lease.client)) is None:
        reason, message = "Released", f"client {lease.client} was deleted"
    elif lease.exporter and lab.get(Exporter, Key(lease.namespace, lease.exporter)) is None:
        reason, message = "Released", f"exporter {lease.exporter} was deleted"
    else:
        return None
    return _with(replace(lease, ended=now), Condition(ConditionType.READY, False, reason, message, now))


def _with(lease: Lease, condition: Condition) -> Lease:
    """The lease with a condition updated in its place, or added as the last. Nothing new: the very same lease."""
    before = lease.condition(condition.type)
    if before is None:
        return replace(lease, conditions=(*lease.conditions, condition))
    if before.holds == condition.holds:
        if (before.reason, before.message) == (condition.reason, condition.message):
            return lease
        condition = replace(condition, since=before.since)
    updated = tuple(condition if one.type is condition.type else one for one in lease.conditions)
    return replace(lease, conditions=updated)
