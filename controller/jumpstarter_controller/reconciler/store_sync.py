"""A draft of a lab, and the store that it is kept in: batches go in, and what others have written comes out.

What the store does not take, or what somebody else was first at, leaves the draft as the store has it.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import zip_longest
from typing import NoReturn

import trio

from jumpstarter_controller.lab import Draft, Drain, Policy, Record
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.reconciler.batch import batch
from jumpstarter_controller.reconciler.counters import Counters
from jumpstarter_controller.reconciler.known_revisions import Known
from jumpstarter_controller.scheduling import StoreEvidence
from jumpstarter_controller.store import (
    Change,
    Conflict,
    DamagedError,
    Event,
    Half,
    Snapshot,
    Store,
    Stored,
    StoreError,
    TooOldError,
    Unknown,
    Written,
)
from jumpstarter_controller.store.contract import Cursor, aged, applied

__all__ = ["RETRY_SECONDS", "OutOfDateError", "StoreSync"]

RETRY_SECONDS = 1.0
WATCH_SECONDS = 60.0
"""Then the store is asked anew."""
END_SECONDS = 1.0
"""So long a watch may take to end when it has been told to."""
MAX_FINDING = 8
"""Threads that look whether there is a record of which nobody has heard."""
MAX_REPAIRS = 16
"""So many damaged records are looked at in one turn."""
LOOK_SECONDS = 1.0
"""When a turn has looked up records for so long, the others wait for a later turn: all requests wait for this one."""

_log = logging.getLogger(__name__)


class OutOfDateError(Exception):
    """It has to be decided again."""


class _NotKnownError(Exception):
    """Whether something is newer cannot be read."""


class _NewerError(Exception):
    """Something is newer."""

    def __init__(self, events: Sequence[Event]) -> None:
        super().__init__()
        self.events = events


class StoreSync:
    """One task changes the draft and calls `begin` and `keep`; `follow` has to run beside it."""

    def __init__(
        self,
        store: Store,
        counters: Counters,
        publish: Callable[[dict[RecordRef, Record | None]], None],
        has_news: Callable[[], None],
        snapshot: Snapshot | None = None,
    ) -> None:
        """`publish` gets records that are in the store now, None for those that are gone; `has_news`: call `begin`."""
        snapshot = snapshot or store.snapshot()
        self.draft = Draft()
        for (kind, key), stored in snapshot.records.items():
            self.draft.set(kind, key, stored.record)
        self.evidence = StoreEvidence(asks=True)
        self.written: set[tuple[RecordRef, Half]] = set()
        """Of what `keep` was to write the last time, what is in the store."""
        self.trouble = ""
        """Why the last write was refused; empty when it was not."""
        self._trouble_passes = False
        self.deafness = ""
        """Why it cannot be read what others have changed; empty when it can."""
        self._unheard = ""
        """Why not all of that can be read, though some can."""
        self._store = store
        self._tally = counters
        self._publish = publish
        self._has_news = has_news
        self._cursor = snapshot.cursor
        self._known = Known(snapshot.records)
        self._foreign: list[Event] = []
        self._watching = trio.CapacityLimiter(1)
        """Taken as long as a thread looks what others change, even one that nobody waits for any more."""
        self._finding = trio.CapacityLimiter(MAX_FINDING)
        """Not the threads of all others: one that looks while the store does not answer takes long."""
        self._repairs_due = 0.0
        self._id = secrets.token_hex(4)
        self._requests = 0

    async def follow(self) -> NoReturn:
        """Take in what others write. What cannot be read is said once, and tried again every second.

        When cancelled, nothing waits for others any more: neither its thread, nor a write that is under way. A thread
        that takes longer than `END_SECONDS` to end is left to itself.
        """
        try:
            await self._follow()
        finally:
            self._store.wake()
            # Whoever watches the store next would be woken in its place.
            with trio.CancelScope(shield=True), trio.move_on_after(END_SECONDS):
                async with self._watching:
                    pass

    async def _follow(self) -> NoReturn:
        while True:
            try:
                events = await self._others()
            except StoreError as error:
                if str(error) != self.deafness:
                    self.deafness = str(error)
                    _log.error("what others have changed cannot be read: %s", error)
                await trio.sleep(RETRY_SECONDS)
                continue
            if self.deafness and not self._unheard:
                self.deafness = ""
                _log.warning("what others have changed can be read again")
            if events:
                self._foreign.extend(events)
                self._has_news()

    async def _others(self) -> Sequence[Event]:
        """What they have changed since the last time, after a while perhaps nothing. StoreError: it cannot be read."""
        try:
            seen = await trio.to_thread.run_sync(
                self._store.watch,
                self._cursor,
                RETRY_SECONDS if self.deafness else WATCH_SECONDS,  # that it can be read again is known soon
                abandon_on_cancel=True,
                limiter=self._watching,
            )
        except TooOldError:
            known = self._known.copy()
            snapshot = await trio.to_thread.run_sync(
                partial(self._store.snapshot, whole=False), abandon_on_cancel=True, limiter=self._watching
            )
            self._cursor, self._unheard = snapshot.cursor, ""
            return known.since(snapshot)
        self._cursor, self._unheard = seen.cursor, seen.trouble
        return seen.events

    def begin(self) -> None:
        """Have others' changes in the draft, and show them."""
        events, self._foreign = self._foreign, []
        self._take_foreign(events)

    def _take_foreign(self, events: Sequence[Event]) -> None:
        if news := self._take(events):
            self.draft.undone += 1  # nobody has looked at them
            if any(kind is Policy for kind, _ in news):
                self.evidence.note_policies()

    async def keep(self, undone: Callable[[], None]) -> None:
        """Write the draft's changes, and show them. Where that stops, the draft has what was written, and no more.

        `undone` is called before the draft is taken back to that.

        Raises:
            Conflict, Unknown: somebody else has changed a record; the draft has theirs.
            OutOfDateError: what was decided rests on what others have changed, which the draft has, or on what cannot
                be known; nothing was written.
            StoreError: it cannot be kept.
        """
        self.written = set()
        self.draft.restore_damaged()
        changes, kinds = self._batch(), tuple(self.evidence.kinds)
        if not changes and not kinds:
            self.draft.commit()
            if self.trouble and self._trouble_passes:
                await self._look_for_store()
            return
        if kinds and self._is_news(self._foreign):
            undone()
            self.draft.back_to(0)
            self.evidence.note_newer(*kinds)
            self.begin()
            raise OutOfDateError
        began = time.perf_counter()
        try:
            # Shielded: a write that is under way ends, and whoever waits for it learns how.
            with trio.CancelScope(shield=True):
                done = await trio.to_thread.run_sync(self._commit, self._cursor, changes, kinds)
        except (_NewerError, _NotKnownError) as error:
            undone()
            self.draft.back_to(0)
            if isinstance(error, _NewerError):
                self._take_foreign(error.events)
                self.evidence.note_newer(*kinds)
            else:
                _log.debug("what is decided has to wait: %s", error.__cause__)
                self.evidence.fail(*kinds)
            raise OutOfDateError from error
        except (Conflict, Unknown) as stopped:
            undone()
            self.draft.back_to(0)
            self._note(changes, stopped.done)
            with trio.CancelScope(shield=True):
                # A store that makes all of a batch or nothing may stop behind some that are not made.
                left = [one for one, done in zip_longest(changes, stopped.done) if done is None]
                every: list[Conflict | Unknown] = [stopped, *stopped.also]
                for one in every:
                    await self._look_at(next(change for change in left if change.ref == one.ref), one)
            raise
        except StoreError as error:
            undone()
            self.draft.back_to(0)
            self._note(changes, error.done)
            self._refuse(error)
            raise
        self.draft.commit()
        if not changes:
            return
        self._tally.writes.observe(time.perf_counter() - began)
        if self.trouble:
            self.trouble = ""
            _log.warning("the store can be written to again")
        self._note(changes, done)

    async def _look_for_store(self) -> None:
        """What could not be written is not wanted any more: when the store can be read, all is well."""
        try:
            await trio.to_thread.run_sync(self._store.read, (Drain, Drain.KEY))
        except StoreError as error:
            self._refuse(error)
        else:
            self.trouble = ""
            _log.warning("the store answers again")

    def _refuse(self, error: StoreError) -> None:
        """A write came to nothing: it is tried every second, and said once."""
        self._trouble_passes = error.passes
        if str(error) != self.trouble:
            self.trouble = str(error)
            _log.error("%s", error)
        self._tally.failed_writes += 1

    def _batch(self) -> list[Change]:
        changes = []
        for ref, half, record, stage in batch(self.draft):
            self._requests += 1
            request = f"{self._id}-{self._requests}"
            changes.append(Change(ref, half, record, self._known.revision(ref), request, stage))
        return changes

    def _note(self, changes: Sequence[Change], done: Sequence[Written | None]) -> None:
        """These are in the store, and in the draft if they are all of a batch's."""
        made = [(one, written) for one, written in zip(changes, done, strict=False) if written is not None]
        self.written |= {(one.ref, one.half) for one, _ in made}
        whole = len(made) == len(changes)
        if not whole and any(one.ref[0] is Policy for one in changes):
            self.evidence.note_policies()
        events: dict[RecordRef, Event] = {}
        for change, (ref, revision, age) in made:
            earlier = events.get(ref)
            if earlier is not None:
                record = earlier.record if whole else applied(earlier.record, change, age)
            elif whole:
                record = self.draft.get(*ref)
                if record is not None and change.revision is None:
                    record = aged(record, age)
            else:
                before = None if change.revision is None else self.draft.get(*ref)
                record = applied(before, change, age)
            stored = None if record is None else Stored(record, revision, change.request)
            events[ref] = Event(ref, revision, stored)
        self._take(list(events.values()))

    async def _look_at(self, change: Change, stopped: Conflict | Unknown) -> None:
        """See how the record is at which a batch has stopped, which may be as it was to be."""
        try:
            stored = await trio.to_thread.run_sync(self._store.read, change.ref)
        except DamagedError as error:
            self._leave_alone(change.ref, error)
            return
        except StoreError as error:
            self._refuse(error)
            raise
        if stored is None:  # who has taken it away is not said
            is_made = change.record is None and isinstance(stopped, Unknown)
        else:
            is_made = stored.request == change.request
        if is_made:
            self.written.add((change.ref, change.half))
        self._take_foreign([self._known.event(change.ref, stored)])
        self.draft.undone += 1

    def _leave_alone(self, ref: RecordRef, error: DamagedError) -> None:
        """Somebody has damaged the record: it stays as it was, and is written no more until it can be read."""
        kind, key = ref
        why = f"{kind.KIND} {key} was damaged in the controller's store, and cannot be changed until it is repaired"
        self.draft.damaged[ref] = f"{why}; who runs the lab finds more in the controller's log"
        self.draft.undone += 1
        self._known.distrust(ref)
        self._repairs_due = time.monotonic() + RETRY_SECONDS
        _log.error("%s; all else goes on: %s", why, error)

    async def _is_repaired(self) -> bool:
        """Whether a record that was damaged can be read again."""
        if not self.draft.damaged or time.monotonic() < self._repairs_due:
            return False
        self._repairs_due = time.monotonic() + RETRY_SECONDS
        is_repaired = False
        due = time.monotonic() + LOOK_SECONDS
        for ref in list(self.draft.damaged)[:MAX_REPAIRS]:
            try:
                stored = await trio.to_thread.run_sync(self._store.read, ref)
            except StoreError:
                self.draft.damaged[ref] = self.draft.damaged.pop(ref)  # the next turn looks at others
                if time.monotonic() >= due:
                    break
                continue
            is_repaired = True
            self._take([self._known.event(ref, stored)])
        return is_repaired

    async def may_be_there(self, ref: RecordRef) -> bool:
        """Whether the store has a record, also one that nobody has heard of yet. Not for a store of one thread.

        When cancelled, its thread is left to itself.
        """
        try:
            found = await trio.to_thread.run_sync(
                self._store.read, ref, abandon_on_cancel=True, limiter=self._finding
            )
            return found is not None
        except StoreError:
            return True

    async def look_for_absent(self) -> bool:
        """Look for the records that may be absent. Whether one is there: the draft has it, and no changes of its own.

        One that cannot be read is neither there nor gone, and keeps nothing else waiting.
        """
        found: list[Event] = []
        due = time.monotonic() + LOOK_SECONDS
        for number, ref in enumerate(list(self.evidence.refs)):
            if number and time.monotonic() >= due:
                self.evidence.fail(*self.evidence.refs)
                break
            try:
                stored = await trio.to_thread.run_sync(self._store.read, ref)
            except StoreError as error:
                _log.debug("whether %s %s is gone is not known: %s", ref[0].KIND, ref[1], error)
                self.evidence.fail(ref)
                continue
            if stored is None:
                self.evidence.prove_gone(ref)
            else:
                self.evidence.fail(ref)
                found.append(self._known.event(ref, stored))
        if not self._is_news(found):
            return False
        self.draft.back_to(0)
        self._take_foreign(found)
        return True

    def _is_news(self, events: Sequence[Event]) -> bool:
        return bool(events) and bool(self._known.copy().take(events))

    def _commit(
        self, cursor: Cursor, changes: Sequence[Change], kinds: Collection[type[Record]]
    ) -> Sequence[Written]:
        """In a thread: write changes, if what was decided still rests on all records of these kinds as they are now."""
        if kinds:
            try:
                newer = self._newer(cursor, kinds)
            except StoreError as error:
                raise _NotKnownError from error
            if self._is_news(newer):
                raise _NewerError(newer)
        return self._store.commit(changes) if changes else ()

    def _newer(self, cursor: Cursor, kinds: Collection[type[Record]]) -> Sequence[Event]:
        try:
            return self._store.newer(cursor, kinds)
        except TooOldError:
            return self._known.since(self._store.snapshot(whole=False))

    async def look_for_repairs(self) -> float | None:
        """See which damaged records are repaired; seconds until it is to be decided again, if not only upon news."""
        if await self._is_repaired():
            return 0.0
        is_open = self.evidence.is_open or self.draft.damaged or self.trouble
        return RETRY_SECONDS if is_open else None

    def _take(self, events: Sequence[Event]) -> Collection[RecordRef]:
        """Have records as the store says that they are, and show them; which are others than before."""
        news = self._known.take(events)
        for (kind, key), record in news.items():
            if self.draft.damaged.pop((kind, key), None) is not None:
                self.draft.undone += 1
                _log.warning("%s %s is damaged no more", kind.KIND, key)
            if self.draft.get(kind, key) is not record:
                self.draft.set(kind, key, record)
        if news:
            self._publish(news)
        return news
