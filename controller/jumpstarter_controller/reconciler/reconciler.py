"""Applies changes to a lab: all of them go through one task, and become visible when they are in the store.

`change` runs a function over a draft. The draft is written as one batch, and only then published, so that nothing that
anybody saw can be lost in a crash. Other processes may write to the store as well. Their changes arrive by `watch` and
are published to watchers, audit log and metrics like our own. A change that conflicts with theirs runs again on the new
records.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import trio
from jumpstarter_proto.notifications import AutoResetEvent
from jumpstarter_proto.remote import ReasonCode, reason_of
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_controller.audit import AuditEntry, Source, ignore, wording
from jumpstarter_controller.audit.entry import entry_of
from jumpstarter_controller.audit.lease_owners import LeaseOwners
from jumpstarter_controller.lab import (
    Draft,
    Exporter,
    ExporterDevices,
    ExporterStatus,
    Key,
    LabState,
    Lease,
    Record,
)
from jumpstarter_controller.lab.tables import KINDS, RecordRef
from jumpstarter_controller.reconciler.batch import halves_of
from jumpstarter_controller.reconciler.change_feed import ChangeFeed
from jumpstarter_controller.reconciler.counters import Counters
from jumpstarter_controller.reconciler.store_sync import RETRY_SECONDS, OutOfDateError, StoreSync
from jumpstarter_controller.scheduling import (
    ExporterPresence,
    FutureTimestamps,
    QueuePosition,
    Scheduler,
    Waiters,
    follow_clock,
)
from jumpstarter_controller.scheduling.clock import Clock, uptime
from jumpstarter_controller.store import Conflict, DamagedError, Half, Snapshot, Store, StoreError, Unknown

__all__ = ["Reconciler"]

T = TypeVar("T")
R = TypeVar("R", bound=Record)
MAX_CONFLICTS = 32
"""After this many conflicts in one turn the changes fail with UNAVAILABLE."""
REFUSAL_KINDS = tuple(kind for kind in KINDS if kind is not ExporterDevices)
"""Kinds of records that a rejection may depend on. Devices, which are large, are never a reason."""
MAX_SLEEP_SECONDS = 30.0
"""The longest pause between two turns: bounds how late a clock that was set, or an absent exporter, is noticed."""

FIND_SECONDS = 1.0
"""How long `find` waits for a record that another controller has just acknowledged."""

_log = logging.getLogger(__name__)


@dataclass
class _Job:
    change: Callable[[Draft, float], Any]
    rests_on: Collection[type[Record]]
    """Kinds of the records that a rejection of this change depends on."""
    marks: tuple[int, int] = (0, 0)
    """Undo marks of the draft, before and after this change ran."""
    writes: set[tuple[RecordRef, Half]] = field(default_factory=set)
    """What the change wrote. Set only if a batch was cut."""
    done: trio.Event = field(default_factory=trio.Event)
    result: Any = None
    error: BaseException | None = None


class Reconciler:
    """Holds the committed state of a lab, and applies changes to it. Works only while `run` is running."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], float] | None = None,
        steady: Callable[[], float] | None = None,
        max_leases: int | None = None,
        snapshot: Snapshot | None = None,
        leads: Callable[[], bool] = lambda: True,
        replica: str = "",
    ) -> None:
        """Load the lab.

        Args:
            store: Where the records are.
            clock: The wall clock. Without `steady` it never jumps.
            steady: A monotonic clock.
            max_leases: Clients that have more leases than this (made by other writers) lose the youngest ones.
            snapshot: A snapshot of the store, if one was already taken.
            leads: Whether this controller is the leader. Otherwise it applies changes, but does not schedule.
            replica: The name of this controller among several of one lab; empty: it is the only one.
        """
        self.presence = ExporterPresence()
        self.waiters = Waiters()
        self.clock = Clock(time.time, uptime) if clock is None else Clock(clock, steady)
        self.counters = Counters()
        self.owners = LeaseOwners()
        self.replica = replica
        self.leads = leads
        """Whether this controller schedules leases at this moment."""
        self._led = False
        self._store_sync = StoreSync(store, self.counters, self._publish, self.schedule_turn, snapshot)
        self._draft = self._store_sync.draft
        self._scheduler = Scheduler(
            self.presence, self.waiters, self._store_sync.evidence, max_leases=max_leases
        )
        self._committed_scheduler = Scheduler(self.presence)
        self.committed = LabState()
        """The records that are in the store."""
        for kind in KINDS:
            for record in self._draft.all(kind):
                self.committed.set(kind, record.key, record)
        now = self.clock()
        self._ahead = FutureTimestamps.of(self.committed, now)
        if self._ahead.newest:
            _log.warning(
                "the clock is %.0f s behind the newest stored time; earlier leases keep their end until it is set",
                self._ahead.newest - now,
            )
        for one in self.committed.all(Exporter) if replica else ():
            self._note_replica(one.key, one, now)
        for exporter in self._online_at_the_end():
            # It could not reach us while the controller was down.
            self.presence.saw(exporter, now)
        self._jobs: list[_Job] = []
        self._moved: dict[tuple[RecordRef, bool], float] = {}
        """Specs, and statuses (True), that already followed a step of the clock when the batch was cut: by how much."""
        self._current: list[_Job] = []
        """The changes of this turn."""
        self._work = AutoResetEvent()
        self._watchers: dict[RecordRef, set[trio.Event]] = {}
        self._queue: dict[Key, QueuePosition] | None = None
        self._next_waiting: dict[Key, Key] = {}
        self.record: Callable[[AuditEntry, Source], None] = ignore
        """Receives the entries for the audit log."""
        self.feed = ChangeFeed()
        """What of `view` has changed."""
        self.failed = trio.Event()
        """Set when `run` has ended: no more changes are made."""

    @property
    def trouble(self) -> str:
        """Why the store cannot be written or watched; empty: it can."""
        return self._store_sync.trouble or self._store_sync.deafness

    @property
    def damage(self) -> str:
        """Which records in the store are damaged; empty: none."""
        first = next(iter(self._draft.damaged.values()), "")
        others = len(self._draft.damaged) - 1
        return f"{first} (and {others} more)" if others > 0 else first

    def schedule_turn(self) -> None:
        """Run a turn soon: something outside of the records has changed."""
        self._work.set()

    def _online_at_the_end(self) -> list[Key]:
        return [
            one.key
            for one in self.committed.all(Exporter)
            if one.devices and one.status is not ExporterStatus.OFFLINE
        ]

    async def change(
        self, change: Callable[[Draft, float], T], *, rests_on: Collection[type[Record]] = REFUSAL_KINDS
    ) -> T:
        """Run `change(draft, now)` and return its result when the draft is in the store.

        If it raises, its changes are undone and the exception is raised here. Before that, the store is checked for
        newer records of the kinds in `rests_on`. If the caller is cancelled, the change is still made.

        Raises:
            StoreError: the store did not accept the change; nothing was changed.
        """
        if self.failed.is_set():
            raise RpcError(StatusCode.UNAVAILABLE, "the controller is shutting down; try again")
        job = _Job(change, rests_on)
        self._jobs.append(job)
        self._work.set()
        await job.done.wait()
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    def queue_positions(self) -> dict[Key, QueuePosition]:
        """The queue positions of all waiting leases."""
        if self._queue is None:
            self._queue = self._committed_scheduler.queue(self.committed, self.clock())
        return self._queue

    def waiting_for(self, exporter: Key) -> Lease | None:
        """The first lease that waits for this exporter, if it is neither leased nor available; None: no lease.

        A change of it wakes everyone who waits for the exporter's record (`wait`).
        """
        lease = self._next_waiting.get(exporter)
        return None if lease is None else self.committed.get(Lease, lease)

    def watch(self, kind: type[Record], key: Key) -> trio.Event:
        """An event that is set when that record changes next. Call this before reading the record.

        The key of an Exporter without a name stands for all exporters of the namespace, and their leases.
        """
        event = trio.Event()
        self._watchers.setdefault((kind, key), set()).add(event)
        return event

    def unwatch(self, kind: type[Record], key: Key, event: trio.Event) -> None:
        """Drop an event of `watch`."""
        events = self._watchers.get((kind, key))
        if events is not None:
            events.discard(event)
            if not events:
                del self._watchers[(kind, key)]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Make changes and scheduled decisions, until cancelled."""
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._store_sync.follow)
                await self._work_on()
        finally:
            self.failed.set()
            self._fail(
                [*self._current, *self._jobs],
                RpcError(StatusCode.UNAVAILABLE, "the controller is shutting down; try again"),
            )

    async def _work_on(self) -> NoReturn:
        while True:
            wake = await self._turn()
            timeout = math.inf if wake is None else max(0.0, wake - self.clock())
            with trio.move_on_after(min(timeout, MAX_SLEEP_SECONDS)):
                await self._work.wait()

    def heard_of(self, lease: Lease) -> None:
        """The command that waits for this lease has polled it, and so knows of its board if it has one."""
        self.waiters.heard(lease, self.clock())
        if lease.accepted:
            self._work.set()

    async def _follow_clock(self) -> None:
        """If the wall clock was set, keep the length of running durations. If that cannot be written, try next turn."""
        for _ in range(MAX_CONFLICTS):
            step = self.clock.step()
            if not step and not self._moved:
                return
            if not self.leads():  # the leader adjusts the records
                self._moved = {}
                break
            follow_clock(self._draft, step, self._ahead, self._moved)
            try:
                await self._write([])
            except (StoreError, Conflict, Unknown) as error:
                self._moved |= {(ref, half is Half.STATUS): step for ref, half in self._store_sync.written}
                if isinstance(error, StoreError):
                    return
            else:
                break
        else:
            return
        self._moved = {}
        self.clock.follow(step)
        self._ahead = self._ahead.at(self.clock())
        self.presence.shift(step)
        self.waiters.shift(step)
        _log.warning(
            "the clock was set %s by %.0f s; active leases keep their duration",
            "forward" if step > 0 else "back",
            abs(step),
        )

    async def _turn(self) -> float | None:
        self._store_sync.begin()
        self._store_sync.evidence.begin()
        await self._follow_clock()
        jobs, self._jobs = self._jobs, []
        self._current = jobs
        for _ in range(MAX_CONFLICTS):
            now = self.clock()
            try:
                wake = await self._decide(jobs, now)
            except Exception:  # a bug fails the changes that triggered it, and not the whole controller
                if not jobs:
                    raise
                _log.exception("a change cannot be scheduled")
                self._draft.back_to(0)
                self._fail(
                    jobs,
                    RpcError(
                        StatusCode.INTERNAL, "internal error of the controller; its log has the details"
                    ),
                )
                return now
            try:
                await self._write(jobs)
            except (Conflict, Unknown, OutOfDateError):
                jobs = self._undecided(jobs)
                self._tell_next_waiting()
                continue
            except StoreError as error:
                self._fail(self._undecided(jobs), error)
                return now + RETRY_SECONDS
            self._tell_next_waiting()
            for job in jobs:
                job.done.set()
            seconds = await self._store_sync.look_for_repairs()
            times = [wake, None if seconds is None else self.clock() + seconds]
            return min((one for one in times if one is not None), default=None)
        self._fail(
            jobs,
            RpcError(StatusCode.UNAVAILABLE, "other writers keep changing the same records; try again"),
        )
        return self.clock() + RETRY_SECONDS

    async def _decide(self, jobs: list[_Job], now: float) -> float | None:
        """Run the changes and the scheduler on the draft, and look up missing records. Returns the next due time."""
        evidence = self._store_sync.evidence
        while True:
            evidence.decide_anew()
            for job in jobs:
                self._try(job, now)
            for job in jobs:
                if isinstance(job.error, RpcError) and _rests_on_records(job.error):
                    evidence.is_current(*job.rests_on)
            wake = self._reconcile(now)
            while evidence.refs:
                if await self._store_sync.look_for_absent():
                    break
                wake = self._reconcile(now)
            else:
                return wake

    def _reconcile(self, now: float) -> float | None:
        leads = self.leads()
        if leads and not self._led:
            self._draft.undone += 1  # the new leader checks everything that the former one decided
        self._led = leads
        if leads:
            return self._scheduler.reconcile(self._draft, now)
        self._scheduler.find_next_waiting(self._draft, now)
        return None

    def _try(self, job: _Job, now: float) -> None:
        """Run a change on the draft, and record its undo marks."""
        mark = self._draft.mark()
        job.error = None
        try:
            job.result = job.change(self._draft, now)
        except Exception as error:  # raised in the caller's task; the other changes continue
            self._draft.back_to(mark)
            job.error = error
        else:
            if self._draft.damaged:
                self._refuse_damaged(job, mark)
        job.marks = (mark, self._draft.mark())

    def _refuse_damaged(self, job: _Job, mark: int) -> None:
        """Undo and reject a change that touches a damaged record."""
        for ref in self._draft.between(mark, self._draft.mark()):
            if (why := self._draft.damaged.get(ref)) is not None:
                self._draft.back_to(mark)
                job.error = DamagedError(why)
                return

    async def _write(self, jobs: list[_Job]) -> None:
        """Write and publish the draft. If the batch is cut, note what each change wrote. Raises as `StoreSync.keep`."""

        def undone() -> None:
            for job in jobs:
                job.writes = {
                    (ref, half)
                    for ref, (before, after) in self._draft.between(*job.marks).items()
                    for half in halves_of(before, after)
                }

        self._queue = None
        # The write is shielded. Without this checkpoint a cancelled task would retry after each conflict.
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._store_sync.keep(undone)

    def _undecided(self, jobs: list[_Job]) -> list[_Job]:
        """The changes that were not completely written. The others are done."""
        left = []
        for job in jobs:
            if job.writes and job.writes <= self._store_sync.written:
                job.done.set()
            else:
                left.append(job)
        return left

    def _tell_next_waiting(self) -> None:
        before, self._next_waiting = self._next_waiting, self._scheduler.next_waiting
        for exporter in before.keys() | self._next_waiting.keys():
            if before.get(exporter) != self._next_waiting.get(exporter):
                self._wake((Exporter, exporter))

    def _publish(self, changes: dict[RecordRef, Record | None]) -> None:
        """Update `committed` with records that are in the store, and wake all watchers."""
        self._queue = None
        touched = set(changes)
        self.feed.note(changes, lambda ref: self.committed.get(*ref))
        for (kind, key), record in changes.items():
            before = self.committed.get(kind, key)
            wording.write(before, record, self.tell)
            self.counters.note(before, record)
            self.owners.note(before, record, self.clock())
            # A lease that holds or held an exporter wakes the watchers of that exporter.
            if kind is Lease:
                self.waiters.written(key, record if isinstance(record, Lease) else None)
            if kind is Lease or kind is Exporter:
                touched.add((Exporter, Key(key.namespace, "")))
            for lease in (before, record):
                if isinstance(lease, Lease) and lease.active:
                    touched.add((Exporter, Key(lease.namespace, lease.exporter)))
        for (kind, key), record in changes.items():
            if kind is Exporter and self.replica:
                self._note_presence(key, record)
            self.committed.set(kind, key, record)
        for ref in touched:
            self._wake(ref)

    def _note_presence(self, key: Key, record: Record | None) -> None:
        """Update the exporter's presence from a record that another controller may have written."""
        now, before = self.clock(), self.committed.get(Exporter, key)
        if isinstance(record, Exporter) and record.status is not ExporterStatus.OFFLINE:
            is_said = record.status is not (ExporterStatus.OFFLINE if before is None else before.status)
            if is_said and record.status is not ExporterStatus.UNSPECIFIED:
                self.presence.saw(key, now)
        self._note_replica(key, record, now)

    def _note_replica(self, key: Key, record: Record | None, now: float) -> None:
        replica = record.replica if isinstance(record, Exporter) else ""
        self.presence.elsewhere(key, "" if replica == self.replica else replica, now)

    def others_live(self, replicas: Iterable[str]) -> None:
        """Set which other controllers of the lab are alive."""
        self.presence.lives(replicas, self.clock())
        self._queue = None
        self._work.set()

    def heard_elsewhere(self, waiters: Mapping[Key, bool]) -> None:
        """Another controller has heard from waiting commands; True: the command knows of its board."""
        for lease, knows in waiters.items():
            self.waiters.heard_elsewhere(lease, self.clock(), knows=knows)
        if any(waiters.values()):
            self._work.set()

    def waiters_to_tell(self) -> dict[Key, bool]:
        """The arguments for `heard_elsewhere` of the controller that leads."""
        return self.waiters.to_tell(self.committed.open_leases(), self.clock())

    async def find(self, kind: type[R], key: Key) -> R | None:
        """The record; None: there is none. Waits a moment for one that another controller has just created."""
        found = self.committed.get(kind, key)
        if found is None and self.replica:
            with trio.move_on_after(FIND_SECONDS):
                if not await self._store_sync.may_be_there((kind, key)):
                    return None
                while (found := self.committed.get(kind, key)) is None:
                    await self.wait(kind, key, FIND_SECONDS)
        return found

    def tell(self, sentence: str, fields: Mapping[str, str], then: float | None = None) -> None:
        """Add an entry to the audit log. `fields` name the objects concerned, as in a log line."""
        self.record(*entry_of(self.clock() if then is None else then, sentence, fields))

    def _wake(self, ref: RecordRef) -> None:
        for event in self._watchers.pop(ref, ()):
            event.set()

    def wake(self, kind: type[Record], key: Key) -> None:
        """Wake everyone who waits for that record, though the record itself has not changed."""
        self._wake((kind, key))

    @staticmethod
    def _fail(jobs: list[_Job], error: Exception) -> None:
        for job in jobs:
            if not job.done.is_set():
                job.error = job.error or error
                job.done.set()

    async def wait(self, kind: type[Record], key: Key, seconds: float) -> None:
        """Wait until that record changes, or the lease that holds that exporter, at most `seconds`."""
        event = self.watch(kind, key)
        try:
            with trio.move_on_after(seconds):
                await event.wait()
        finally:
            self.unwatch(kind, key, event)


def _rests_on_records(error: RpcError) -> bool:
    """Whether the rejection of a request depends on records, and not on the request alone."""
    return error.code is not StatusCode.INVALID_ARGUMENT and reason_of(error) != ReasonCode.BAD_WISH.value
