"""Decides which leases end, which wait and which get an exporter. No I/O, no clock of its own.

Waiting leases are in a queue (`lease_queue.py`): the highest priority first, then the oldest. Conditions and their
reasons are those of Jumpstarter's controller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jumpstarter_proto.identifiers import short_form
from jumpstarter_proto.remote import ReasonCode
from msgspec.structs import replace

from jumpstarter_controller.lab import (
    Client,
    ConditionType,
    Draft,
    Drain,
    Exporter,
    ExporterStatus,
    Key,
    LabState,
    Lease,
    LeaseCondition,
    Policy,
)
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.scheduling.candidates import Candidates, LeaseRefusal, choices
from jumpstarter_controller.scheduling.estimate import forecast
from jumpstarter_controller.scheduling.lease_limit import excess_leases
from jumpstarter_controller.scheduling.lease_queue import ExporterPool, LeaseQueue, Reservations, end_of
from jumpstarter_controller.scheduling.offers import ANSWER_SECONDS, accept, assign, update_offer, withdraw
from jumpstarter_controller.scheduling.presence import ExporterPresence
from jumpstarter_controller.scheduling.references import reconcile_references
from jumpstarter_controller.scheduling.store_evidence import StoreEvidence
from jumpstarter_controller.scheduling.waiters import PICKUP_SECONDS, WAITER_SECONDS, Waiters

__all__ = ["READY_STATUSES", "QueuePosition", "Scheduler", "online"]

READY_STATUSES = frozenset((ExporterStatus.AVAILABLE, ExporterStatus.UNSPECIFIED))
"""Statuses in which an exporter can begin a lease. Exporters before 0.8 report no status (UNSPECIFIED)."""
MAX_REMEMBERED_CHOICES = 4096


@dataclass(frozen=True)
class QueuePosition:
    """The position of a lease in the queue."""

    number: int
    """1 is next."""
    seconds: float | None
    """Estimated time until it gets an exporter, if no lease ends early; None: unknown."""


def online(exporter: Exporter, presence: ExporterPresence, now: float) -> bool:
    """Whether it is registered, and connected or recently seen."""
    return _has_not_left(exporter) and presence.is_fresh(exporter.key, now)


def _has_not_left(exporter: Exporter) -> bool:
    return exporter.devices > 0 and exporter.status is not ExporterStatus.OFFLINE


class Scheduler:
    """Makes all decisions that are due. Its only state is a cache, which a restart may lose."""

    def __init__(
        self,
        presence: ExporterPresence,
        waiters: Waiters | None = None,
        evidence: StoreEvidence | None = None,
        *,
        max_leases: int | None = None,
    ) -> None:
        """With `max_leases`, clients that have more leases than that (made by other writers) lose the youngest ones."""
        self.presence = presence
        self.waiters = waiters or Waiters()
        self.evidence = evidence or StoreEvidence()
        self._max_leases = max_leases
        self.next_waiting: dict[Key, Key] = {}
        """For each online exporter that is neither leased nor available: the first waiting lease that may have it."""
        self._choices: dict[tuple[object, ...], Candidates | LeaseRefusal] = {}
        self._generation = (-1, -1)
        self._checked = (-1, -1)

    def reconcile(self, draft: Draft, now: float) -> float | None:
        """Make all decisions that are due. Returns when the next one is due; None if none depends on time."""
        self.evidence.note_time(now)
        self._note_absence(draft, now)
        reconcile_references(draft, self.evidence, now)
        waiting: list[Lease] = []
        later: list[Lease] = []
        due = []
        drain = draft.get(Drain, Drain.KEY)
        for one in draft.open_leases():
            if draft.damaged and (Lease, one.key) in draft.damaged:
                continue
            lease = self._with_offer_updated(draft, self._noticed(draft, one, now), now)
            if self._may_rest_on_more(draft, lease):
                continue
            ended = _ended(draft, lease, now) or self._abandoned(lease, now)
            if ended is not None:
                draft.put(withdraw(ended))
                continue
            if lease.offered is not None and drain is not None:
                lease = withdraw(lease)
                draft.put(lease)
            if lease.offered is not None:
                due.append(lease.offered + ANSWER_SECONDS)
            if lease.waited:
                due.append(self.waiters.limit(lease, now))
            if lease.expiry is not None:
                due.append(lease.expiry)
            if not lease.exporter:
                if lease.begin_time is not None and lease.begin_time > now:
                    due.append(lease.begin_time)
                    later.append(lease)
                else:
                    waiting.append(lease)
        if excess := self._end_excess(draft, now):
            waiting = [one for one in waiting if one.key not in excess]
            later = [one for one in later if one.key not in excess]
        reconcile_references(draft, self.evidence, now)  # leases that ended above release their exporters
        due += self._place(draft, waiting, later, now)
        if (loss := self.presence.next_loss()) is not None:
            due.append(loss + 0.001)
        return min(due, default=None)

    def _may_rest_on_more(self, draft: Draft, lease: Lease) -> bool:
        """Whether it depends on a record that is missing here, but may exist in the store."""
        refs: list[RecordRef] = [(Client, Key(lease.namespace, lease.client))]
        if lease.exporter:
            refs.append((Exporter, Key(lease.namespace, lease.exporter)))
        missing = [one for one in refs if draft.get(*one) is None]
        return any([not self.evidence.is_gone(draft, one) for one in missing])  # noqa: C419 - all are asked for

    def _end_excess(self, draft: Draft, now: float) -> set[Key]:
        """End the youngest leases of clients that have too many. Returns their keys."""
        ended: set[Key] = set()
        if self._max_leases is None:
            return ended
        for lease in excess_leases(draft.open_leases(), self._max_leases, now):
            if (Lease, lease.key) in draft.damaged or not self.evidence.is_current(Lease):
                continue
            why = f"client {lease.client} has {self._max_leases} older leases, and may have no more"
            condition = LeaseCondition(ConditionType.READY, False, "Released", why, now)
            draft.put(withdraw(replace(lease, ended=now).with_condition(condition)))
            ended.add(lease.key)
        return ended

    def _with_offer_updated(self, draft: Draft, lease: Lease, now: float) -> Lease:
        """The lease; begun, or waiting again, if its offer was accepted, expired or lost its exporter."""
        if lease.accepted and lease.begun is None:  # written so by another process: it would never end
            lease = accept(lease, now)
            draft.put(lease)
        if lease.offered is None:
            return lease
        exporter = draft.get(Exporter, Key(lease.namespace, lease.exporter))
        is_there = exporter is not None and online(exporter, self.presence, now)
        return update_offer(draft, lease, is_there, now)

    def _noticed(self, draft: Draft, lease: Lease, now: float) -> Lease:
        """The lease; no longer marked as `waited` if its command knows that it has a board."""
        if lease.waited and lease.accepted and self.waiters.is_picked_up(lease.key, now):
            lease = replace(lease, waited=False)
            draft.put(lease)
        return lease

    def _abandoned(self, lease: Lease, now: float) -> Lease | None:
        """The ended lease if the command that waited for it is gone; None if the lease continues."""
        if not lease.waited or self.waiters.limit(lease, now) > now:
            return None
        if lease.accepted:
            why = f"the command that waited for it did not take it within {PICKUP_SECONDS:.0f} s"
        else:
            why = f"the command that waited for it was not heard of for {WAITER_SECONDS:.0f} s"
        return replace(lease, ended=now).with_condition(
            LeaseCondition(ConditionType.READY, False, "Released", why, now)
        )

    def _note_absence(self, draft: Draft, now: float) -> None:
        """Mark exporters offline that are neither connected nor were seen recently, whatever status they reported."""
        for key in self._in_doubt(draft):
            if self.presence.is_fresh(key, now):
                continue
            exporter = draft.get(Exporter, key)
            if exporter is None or exporter.status is ExporterStatus.OFFLINE or not exporter.devices:
                self.presence.confirm_offline(key)
                continue
            was_here = self.presence.last_seen(key) is not None
            why = "nothing was heard of it for a minute" if was_here else "it has not connected yet"
            draft.put(replace(exporter, status=ExporterStatus.OFFLINE, status_message=why, replica=""))
            self.presence.confirm_offline(key)

    def _in_doubt(self, draft: Draft) -> list[Key]:
        """Exporters whose status may be outdated: usually few, but all of them after changes were undone."""
        checked = (id(draft), draft.undone)
        changed = checked != self._checked
        self._checked = checked
        recorded = (one.key for one in draft.all(Exporter)) if changed else draft.touched(Exporter)
        return [*self.presence.disconnected_exporters(), *recorded]

    def _place(self, draft: Draft, waiting: list[Lease], later: list[Lease], now: float) -> list[float]:
        """Allocate exporters to waiting leases. Returns when the new leases end, and when to decide about others."""
        self.next_waiting = {}
        expiries: list[float] = []
        queue: list[tuple[Lease, Candidates]] = []
        for lease in waiting:
            found = self.choices(draft, lease)
            if isinstance(found, Candidates):
                queue.append((lease, found))
            elif lease.waits_for_board and not found.is_final:
                draft.put(lease.with_condition(found.waiting(now)))
            elif self.evidence.is_current(*found.rests_on):
                settled = self.evidence.policies_settle(now) if Policy in found.rests_on else None
                if settled is None:
                    draft.put(replace(lease, ended=now).with_condition(found.condition(now)))
                else:
                    draft.put(lease.with_condition(found.unsettled(now)))
                    expiries.append(settled)
        if (drain := draft.get(Drain, Drain.KEY)) is not None:
            pending = _drained(drain, now)
            for lease, _ in queue:
                draft.put(lease.with_condition(pending))
            return expiries
        if not queue:
            return expiries
        pool = self._pool(draft, now)
        reservations = self._reservations(draft, later)
        lease_queue = LeaseQueue(queue)
        held_up = [key for key in pool.free_at if key not in pool.free and draft.holder(key) is None]
        for lease, exporter, priority in lease_queue.allocate(pool, reservations, now):
            record = draft.get(Exporter, exporter)
            assert record is not None
            draft.put(replace(record, lease=lease.name))
            draft.put(assign(lease, record, priority, now))
            expiries.append(now + ANSWER_SECONDS if record.answers else end_of(lease, now))
        firsts = ((key, lease_queue.next_for(key)) for key in held_up)
        self.next_waiting = {key: first.key for key, first in firsts if first is not None}
        why: dict[int, LeaseCondition] = {}
        held = _held(draft)
        for lease, found in queue:
            if draft.get(Lease, lease.key) is lease:
                if id(found) not in why:  # the same for all leases with the same candidates
                    why[id(found)] = _pending(draft, found, pool, now)
                draft.put(lease.with_condition(_naming_own(why[id(found)], lease, found, held)))
        return expiries

    def find_next_waiting(self, state: LabState, now: float) -> None:
        """Update `next_waiting` without deciding anything."""
        found = ((one, self.choices(state, one)) for one in state.open_leases() if not one.exporter)
        queue = [
            (one, candidates)
            for one, candidates in found
            if isinstance(candidates, Candidates) and (one.begin_time is None or one.begin_time <= now)
        ]
        self.next_waiting = {}
        if queue and state.get(Drain, Drain.KEY) is None:
            pool, lease_queue = self._pool(state, now), LeaseQueue(queue)
            held_up = [key for key in pool.free_at if key not in pool.free and state.holder(key) is None]
            firsts = ((key, lease_queue.next_for(key)) for key in held_up)
            self.next_waiting = {key: first.key for key, first in firsts if first is not None}

    def _preference(self, exporter: Key) -> tuple[bool, Key]:
        """Prefer connected exporters, then sort by name."""
        return not self.presence.is_connected(exporter), exporter

    def _reservations(self, state: LabState, later: list[Lease]) -> Reservations:
        found = ((lease, self.choices(state, lease)) for lease in later)
        return Reservations([(lease, one) for lease, one in found if isinstance(one, Candidates)])

    def choices(self, state: LabState, lease: Lease) -> Candidates | LeaseRefusal:
        """`candidates.choices`, cached until one of its inputs changes."""
        generation = (id(state), state.generation)
        if generation != self._generation:
            self._choices.clear()
            self._generation = generation
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
            if len(self._choices) >= MAX_REMEMBERED_CHOICES:
                self._choices.clear()
            found = self._choices[request] = choices(state, lease)
        return found

    def _pool(self, state: LabState, now: float) -> ExporterPool:
        free: set[Key] = set()
        free_at: dict[Key, float] = {}
        damaged = {key for kind, key in state.damaged if kind is Exporter}
        for key, exporter in state.items(Exporter):  # runs for every exporter in each turn: keep it fast
            if _has_not_left(exporter) and self.presence.is_fresh(key, now):
                holder = state.holder(key)
                if holder is None:
                    free_at[key] = now
                    is_ready = exporter.status in READY_STATUSES and not exporter.lease
                    if is_ready and key not in damaged:
                        free.add(key)
                else:  # an offered lease will have its whole duration from its acceptance on
                    held = holder.expiry
                    free_at[key] = end_of(holder, now) if held is None else held
        return ExporterPool(free, free_at, self._preference)

    def queue(self, state: LabState, now: float) -> dict[Key, QueuePosition]:
        """The queue position and the estimated wait of each waiting lease."""
        waiting: list[tuple[Lease, Candidates]] = []
        later: list[Lease] = []
        for lease in state.open_leases():
            if lease.exporter:
                continue
            if lease.begin_time is not None and lease.begin_time > now:
                later.append(lease)
            elif isinstance(found := self.choices(state, lease), Candidates):
                waiting.append((lease, found))
        if not waiting:
            return {}
        if state.get(Drain, Drain.KEY) is not None:
            return {
                key: QueuePosition(number, None) for key, number in LeaseQueue(waiting).positions().items()
            }
        reservations = self._reservations(state, later)
        begins = forecast(waiting, reservations, self._pool(state, now), now)
        return {
            key: QueuePosition(number, begins[key] - now if key in begins else None)
            for key, number in LeaseQueue(waiting).positions().items()
        }


ALL_LEASED = "all exporters that it may have are leased"


def _pending(state: LabState, found: Candidates, pool: ExporterPool, now: float) -> LeaseCondition:
    """The condition that says why a lease waits."""
    here = [key for key in found.exporters if key in pool.free_at]
    if not here:
        reason, message = "Offline", "none of the exporters that it may have is online"
    elif all(state.holder(key) is not None for key in here):
        reason, message = "NotAvailable", ALL_LEASED
    elif any(key in pool.free for key in here):
        reason = "NotAvailable"
        message = "the free exporters are reserved for a lease that begins before this one would end"
    else:
        reason, message = "NotReady", "no exporter that it may have is ready yet"
        left = sorted(key for key in here if state.holder(key) is None)
        said = (state.get(Exporter, key) for key in left)
        if any((Exporter, key) in state.damaged for key in left):
            message += "; the record of one is damaged: the lab's administrator has to repair it"
        elif (one := next((one for one in said if one is not None and one.reasons), None)) is not None:
            message += f"; {one.name}: {one.status_message}"
    return LeaseCondition(ConditionType.PENDING, True, reason, message, now)


def _held(state: LabState) -> dict[Key, list[Lease]]:
    """The leases that have an exporter, by the keys of their clients."""
    held: dict[Key, list[Lease]] = {}
    for lease in state.open_leases():
        if lease.exporter:
            held.setdefault(Key(lease.namespace, lease.client), []).append(lease)
    return held


def _naming_own(
    condition: LeaseCondition, lease: Lease, found: Candidates, held: Mapping[Key, Sequence[Lease]]
) -> LeaseCondition:
    """The condition of a waiting lease, with the lease by which its own client holds a board that it may have.

    That is a second terminal or a forgotten lease, and the user would wait for themselves.
    """
    if condition.message != ALL_LEASED:
        return condition
    mine = held.get(Key(lease.namespace, lease.client), ())
    own = next((one for one in mine if found.has(Key(one.namespace, one.exporter))), None)
    if own is None:
        return condition
    return replace(condition, message=f"{ALL_LEASED}, {own.exporter} by you (lease {short_form(own.name)})")


def _drained(drain: Drain, now: float) -> LeaseCondition:
    """The condition of all waiting leases while the lab is drained."""
    why = f" ({drain.reason})" if drain.reason else ""
    message = f"the lab is drained{why}: leases that run go on, and no lease begins until it is resumed"
    return LeaseCondition(ConditionType.PENDING, True, "NotAvailable", message, now, ReasonCode.DRAINED.value)


def _ended(state: LabState, lease: Lease, now: float) -> Lease | None:
    """The lease, ended now; None if it continues."""
    if lease.release:
        reason, message = "Released", lease.release_reason or "it was released"
    elif lease.expiry is not None and lease.expiry <= now:
        reason, message = "Expired", "its time is over"
    elif state.get(Client, Key(lease.namespace, lease.client)) is None:
        is_news = not lease.conditions  # first decision about it: the client may never have existed
        is_gone = "there is no client {}" if is_news else "client {} was deleted"
        reason, message = "Released", is_gone.format(lease.client)
    elif lease.exporter and state.get(Exporter, Key(lease.namespace, lease.exporter)) is None:
        reason, message = "Released", f"exporter {lease.exporter} was deleted"
    else:
        return None
    return replace(lease, ended=now).with_condition(
        LeaseCondition(ConditionType.READY, False, reason, message, now)
    )
