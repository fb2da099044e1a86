"""The lab as a running thing: changes go through one task, and count when they are in the store.

`change` runs a function over a draft. What happened meanwhile is written as one batch; then everybody sees it, and
not before, so that nothing that was seen can be lost in a crash. Others may write to the store, too: what they have
changed comes in by `watch`, and goes the same way out, to watchers, journal and metrics. A change that comes upon
theirs is made again, on the records as they are then.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import trio
from jumpstarter_proto.remote import ReasonCode, reason_of
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_controller.audit import AuditEntry, Source, ignore, wording
from jumpstarter_controller.audit.entry import entry_of
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
"""Who comes upon others' changes so often in one turn is told to try again."""
REFUSAL_KINDS = tuple(kind for kind in KINDS if kind is not ExporterDevices)
"""Of these kinds are the records for which requests are refused. None is for devices, which are large."""
MAX_SLEEP_SECONDS = 30.0
"""A wall clock that was set, or an exporter's presence that changed without a record, is noticed so soon."""

FIND_SECONDS = 1.0
"""So late may be what another controller of the lab has acknowledged."""

_log = logging.getLogger(__name__)


@dataclass
class _Job:
    change: Callable[[Draft, float], Any]
    rests_on: Collection[type[Record]]
    """Of which kinds the records are on which it rests when it is refused."""
    marks: tuple[int, int] = (0, 0)
    """Of the draft, before and behind what it has changed when it was run last."""
    writes: set[tuple[RecordRef, Half]] = field(default_factory=set)
    """What that was; known when not all was written."""
    done: trio.Event = field(default_factory=trio.Event)
    result: Any = None
    error: BaseException | None = None


class Reconciler:
    """Holds a lab in memory and in a store. `run` has to run."""

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
        """`clock` is the wall clock; a given one is never set in the middle, unless there is a `steady` one, too.

        `snapshot` is the store's, where it was taken already. While it does not lead it makes what it is asked for, and
        decides nothing: another does. `replica` is which of several controllers of a lab it is; empty: it is alone.
        When others make more than `max_leases` of a client, the youngest end.
        """
        self.presence = ExporterPresence()
        self.waiters = Waiters()
        self.clock = Clock(time.time, uptime) if clock is None else Clock(clock, steady)
        self.counters = Counters()
        self.replica = replica
        self.leads = leads
        """Whether this engine decides about leases in this moment."""
        self._led = False
        self._store_sync = StoreSync(store, self.counters, self._publish, self.schedule_turn, snapshot)
        self._draft = self._store_sync.draft
        self._scheduler = Scheduler(
            self.presence, self.waiters, self._store_sync.evidence, max_leases=max_leases
        )
        self._committed_scheduler = Scheduler(self.presence)
        self.committed = LabState()
        """What is acknowledged."""
        for kind in KINDS:
            for record in self._draft.all(kind):
                self.committed.set(kind, record.key, record)
        now = self.clock()
        self._ahead = FutureTimestamps.of(self.committed, now)
        if self._ahead.newest:
            _log.warning(
                "the clock is %.0f s behind what was written last; leases from before wait for it to be set",
                self._ahead.newest - now,
            )
        for one in self.committed.all(Exporter) if replica else ():
            self._note_replica(one.key, one, now)
        for exporter in self._online_at_the_end():
            # It had no chance to be heard while we were away.
            self.presence.saw(exporter, now)
        self._jobs: list[_Job] = []
        self._moved: dict[tuple[RecordRef, bool], float] = {}
        """Specs, and statuses (True), that have followed a step of the clock that others have not yet: by how much."""
        self._current: list[_Job] = []
        """Those of this turn."""
        self._work = trio.Event()
        self._watchers: dict[RecordRef, set[trio.Event]] = {}
        self._queue: dict[Key, QueuePosition] | None = None
        self._next_waiting: dict[Key, Key] = {}
        self.record: Callable[[AuditEntry, Source], None] = ignore
        """Takes what the journal is to keep."""
        self.feed = ChangeFeed()
        """What of `view` has changed."""
        self.failed = trio.Event()
        """The engine has ended: no change will be made any more."""

    @property
    def trouble(self) -> str:
        """Why the last write was refused, or what others write cannot be read; empty when all is well."""
        return self._store_sync.trouble or self._store_sync.deafness

    @property
    def damage(self) -> str:
        """Which records somebody has damaged; empty when there is none."""
        first = next(iter(self._draft.damaged.values()), "")
        others = len(self._draft.damaged) - 1
        return f"{first} (and {others} more)" if others > 0 else first

    def schedule_turn(self) -> None:
        """Something has changed beside the records."""
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
        """Run `change(lab, now)` over the draft and return its result when it is on the disk.

        What it raises comes back, and nothing of it is kept. When cancelled, the change is made nevertheless.
        Before it is refused the store is asked for records of the kinds on which that rests, if it has newer ones.

        Raises:
            StoreError: the disk does not take it; nothing was changed.
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
        """The queue, as it stands."""
        if self._queue is None:
            self._queue = self._committed_scheduler.queue(self.committed, self.clock())
        return self._queue

    def waiting_for(self, exporter: Key) -> Lease | None:
        """The first of the leases that wait for an exporter which is not available, and has none; None for nobody.

        Who waits for the exporter's record (`wait`) hears of a change.
        """
        lease = self._next_waiting.get(exporter)
        return None if lease is None else self.committed.get(Lease, lease)

    def watch(self, kind: type[Record], key: Key) -> trio.Event:
        """An event that is set with the next change of that record; get it before looking.

        An Exporter without a name is all of its namespace, with their leases.
        """
        event = trio.Event()
        self._watchers.setdefault((kind, key), set()).add(event)
        return event

    def unwatch(self, kind: type[Record], key: Key, event: trio.Event) -> None:
        """Nobody waits for it any more."""
        events = self._watchers.get((kind, key))
        if events is not None:
            events.discard(event)
            if not events:
                del self._watchers[(kind, key)]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Make changes and timed decisions until cancelled."""
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
        """The command that waits for a lease has asked for it, and knows of its board if there is one."""
        self.waiters.heard(lease, self.clock())
        if lease.accepted:
            self._work.set()

    async def _follow_clock(self) -> None:
        """The wall clock was set: what lasts a time goes on lasting it. When it cannot be written, next time."""
        for _ in range(MAX_CONFLICTS):
            step = self.clock.step()
            if not step and not self._moved:
                return
            if not self.leads():  # who leads has the records follow
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
            "the clock was set %s by %.0f s; leases that run last as long as they were to last",
            "forward" if step > 0 else "back",
            abs(step),
        )

    async def _turn(self) -> float | None:
        self._work = trio.Event()
        self._store_sync.begin()
        self._store_sync.evidence.begin()
        await self._follow_clock()
        jobs, self._jobs = self._jobs, []
        self._current = jobs
        for _ in range(MAX_CONFLICTS):
            now = self.clock()
            try:
                wake = await self._decide(jobs, now)
            except (
                Exception
            ):  # the edge of one turn: a fault of ours ends the changes that brought it about, not the lab
                if not jobs:
                    raise
                # A fault of ours that a change brought about: the change goes, and the lab stays.
                _log.exception("a change cannot be scheduled")
                self._draft.back_to(0)
                self._fail(
                    jobs, RpcError(StatusCode.INTERNAL, "the controller cannot do this; its log says why")
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
            RpcError(StatusCode.UNAVAILABLE, "others change the same records all the time; try again"),
        )
        return self.clock() + RETRY_SECONDS

    async def _decide(self, jobs: list[_Job], now: float) -> float | None:
        """Have all that is to be written in the draft, and noted on what it rests; when there is more to decide."""
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
            self._draft.undone += 1  # what others have decided until now is looked at as if it was new
        self._led = leads
        if leads:
            return self._scheduler.reconcile(self._draft, now)
        self._scheduler.find_next_waiting(self._draft, now)
        return None

    def _try(self, job: _Job, now: float) -> None:
        """Make a change on the draft, and note what of that is its own."""
        mark = self._draft.mark()
        job.error = None
        try:
            job.result = job.change(self._draft, now)
        except Exception as error:  # its caller's, whatever it is; the others go on
            self._draft.back_to(mark)
            job.error = error
        else:
            if self._draft.damaged:
                self._refuse_damaged(job, mark)
        job.marks = (mark, self._draft.mark())

    def _refuse_damaged(self, job: _Job, mark: int) -> None:
        """Nothing of a change is made that changes a damaged record, too."""
        for ref in self._draft.between(mark, self._draft.mark()):
            if (why := self._draft.damaged.get(ref)) is not None:
                self._draft.back_to(mark)
                job.error = DamagedError(why)
                return

    async def _write(self, jobs: list[_Job]) -> None:
        """Keep what is in the draft, and show it; whose each change is, is noted first. Raises as `StoreSync.keep`."""

        def undone() -> None:
            for job in jobs:
                job.writes = {
                    (ref, half)
                    for ref, (before, after) in self._draft.between(*job.marks).items()
                    for half in halves_of(before, after)
                }

        self._queue = None
        # A write is shielded: without this, who is cancelled would try again as often as others get ahead.
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._store_sync.keep(undone)

    def _undecided(self, jobs: list[_Job]) -> list[_Job]:
        """Those of which something was not written; the others hear that all of it was."""
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
        """Everybody sees these, which are in the store."""
        self._queue = None
        touched = set(changes)
        self.feed.note(changes, lambda ref: self.committed.get(*ref))
        for (kind, key), record in changes.items():
            before = self.committed.get(kind, key)
            wording.write(before, record, self.tell)
            self.counters.note(before, record)
            # What holds an exporter, or held it, is news for that exporter.
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
        """Another controller may have written what it has heard of an exporter."""
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
        """These other controllers of the lab live."""
        self.presence.lives(replicas, self.clock())
        self._queue = None
        self._work.set()

    def heard_elsewhere(self, waiters: Mapping[Key, bool]) -> None:
        """Another controller has heard of commands that wait for leases; True: they know of their boards."""
        for lease, knows in waiters.items():
            self.waiters.heard_elsewhere(lease, self.clock(), knows=knows)
        if any(waiters.values()):
            self._work.set()

    def waiters_to_tell(self) -> dict[Key, bool]:
        """What the controller that leads is to be told by `heard_elsewhere`."""
        return self.waiters.to_tell(self.committed.open_leases(), self.clock())

    async def find(self, kind: type[R], key: Key) -> R | None:
        """That record. One that another controller has just made may take a moment to be seen here."""
        found = self.committed.get(kind, key)
        if found is None and self.replica:
            with trio.move_on_after(FIND_SECONDS):
                if not await self._store_sync.may_be_there((kind, key)):
                    return None
                while (found := self.committed.get(kind, key)) is None:
                    await self.wait(kind, key, FIND_SECONDS)
        return found

    def tell(self, sentence: str, fields: Mapping[str, str], then: float | None = None) -> None:
        """Have the journal keep that it happened, with whom it concerns as fields of a log's line."""
        self.record(*entry_of(self.clock() if then is None else then, sentence, fields))

    def _wake(self, ref: RecordRef) -> None:
        for event in self._watchers.pop(ref, ()):
            event.set()

    def wake(self, kind: type[Record], key: Key) -> None:
        """Whoever waits for that record looks again: there is news that is not in it."""
        self._wake((kind, key))

    @staticmethod
    def _fail(jobs: list[_Job], error: Exception) -> None:
        for job in jobs:
            if not job.done.is_set():
                job.error = job.error or error
                job.done.set()

    async def wait(self, kind: type[Record], key: Key, seconds: float) -> None:
        """Until that record changes, or the lease that holds that exporter, at most so long."""
        event = self.watch(kind, key)
        try:
            with trio.move_on_after(seconds):
                await event.wait()
        finally:
            self.unwatch(kind, key, event)


def _rests_on_records(error: RpcError) -> bool:
    """Whether a request that is refused would not be if records were others."""
    return error.code is not StatusCode.INVALID_ARGUMENT and reason_of(error) != ReasonCode.BAD_WISH.value
