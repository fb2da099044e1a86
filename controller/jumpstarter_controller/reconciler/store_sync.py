"""Keeps a draft in sync with its store: writes batches, and takes in what other processes have written.

After a rejected or conflicting write the draft contains what the store contains.
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
from jumpstarter_controller.reconciler.known_revisions import KnownRevisions
from jumpstarter_controller.scheduling import StoreEvidence
from jumpstarter_controller.store import (
    Change,
    Conflict,
    DamagedError,
    Half,
    Snapshot,
    Store,
    Stored,
    StoreError,
    StoreEvent,
    TooOldError,
    Unknown,
    Written,
)
from jumpstarter_controller.store.contract import Cursor, aged, applied

__all__ = ["RETRY_SECONDS", "OutOfDateError", "StoreSync"]

RETRY_SECONDS = 1.0
WATCH_SECONDS = 60.0
"""The longest time of one call of `Store.watch`."""
END_SECONDS = 1.0
"""How long a watch may take to end after `wake`."""
MAX_FINDING = 8
"""Threads of `may_be_there`."""
MAX_REPAIRS = 16
"""Damaged records that are checked in one turn."""
LOOK_SECONDS = 1.0
"""After this time of lookups in one turn the remaining ones wait for a later turn, as all requests wait meanwhile."""

_log = logging.getLogger(__name__)


class OutOfDateError(Exception):
    """The decisions depend on outdated records and have to be made again."""


class _NotKnownError(Exception):
    """It cannot be read whether there are newer records."""


class _NewerError(Exception):
    """There are newer records."""

    def __init__(self, events: Sequence[StoreEvent]) -> None:
        super().__init__()
        self.events = events


class StoreSync:
    """One task changes the draft and calls `begin` and `keep`, while `follow` runs in another."""

    def __init__(
        self,
        store: Store,
        counters: Counters,
        publish: Callable[[dict[RecordRef, Record | None]], None],
        has_news: Callable[[], None],
        snapshot: Snapshot | None = None,
    ) -> None:
        """`publish` receives the records that are now in the store (None: deleted). `has_news` asks to call `begin`."""
        snapshot = snapshot or store.snapshot()
        self.draft = Draft()
        for (kind, key), stored in snapshot.records.items():
            self.draft.set(kind, key, stored.record)
        self.evidence = StoreEvidence(asks=True)
        self.written: set[tuple[RecordRef, Half]] = set()
        """What the last call of `keep` has written."""
        self.trouble = ""
        """Why the last write failed; empty: it did not."""
        self._trouble_passes = False
        self.deafness = ""
        """Why changes of other writers cannot be read; empty: they can."""
        self._unheard = ""
        """Why some of them cannot be read, though others can."""
        self._store = store
        self._counters = counters
        self._publish = publish
        self._has_news = has_news
        self._cursor = snapshot.cursor
        self._known = KnownRevisions(snapshot.records)
        self._foreign: list[StoreEvent] = []
        self._watching = trio.CapacityLimiter(1)
        """Held as long as a thread runs `Store.watch`, even if its task was cancelled."""
        self._finding = trio.CapacityLimiter(MAX_FINDING)
        """Separate from the default limiter, as these threads block while the store does not answer."""
        self._repairs_due = 0.0
        self._id = secrets.token_hex(4)
        self._requests = 0

    async def follow(self) -> NoReturn:
        """Take in what others write. A read error is logged once, and the read is repeated every second.

        When cancelled, it ends the thread in `Store.watch` and the waiting of a write in progress. A thread that does
        not end within `END_SECONDS` is abandoned.
        """
        try:
            await self._follow()
        finally:
            self._store.wake()
            # Otherwise the next watcher of the store would be woken instead.
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
                    _log.error("changes of other writers cannot be read: %s", error)
                await trio.sleep(RETRY_SECONDS)
                continue
            if self.deafness and not self._unheard:
                self.deafness = ""
                _log.warning("changes of other writers can be read again")
            if events:
                self._foreign.extend(events)
                self._has_news()

    async def _others(self) -> Sequence[StoreEvent]:
        """Changes of others since the last call; may be empty after a time-out. StoreError: they cannot be read."""
        try:
            seen = await trio.to_thread.run_sync(
                self._store.watch,
                self._cursor,
                RETRY_SECONDS if self.deafness else WATCH_SECONDS,  # notice soon that it can be read again
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
        """Apply the changes of others to the draft, and publish them."""
        events, self._foreign = self._foreign, []
        self._take_foreign(events)

    def _take_foreign(self, events: Sequence[StoreEvent]) -> None:
        if news := self._take(events):
            self.draft.undone += 1  # the scheduler has not seen them
            if any(kind is Policy for kind, _ in news):
                self.evidence.note_policies()

    async def keep(self, undone: Callable[[], None]) -> None:
        """Write the changes of the draft, and publish them. If the batch is cut, the draft keeps what was written.

        `undone` is called before the rest of the draft is undone.

        Raises:
            Conflict, Unknown: another writer changed a record; the draft has that version.
            OutOfDateError: the decisions depend on records that others have changed (the draft has them), or that
                cannot be read; nothing was written.
            StoreError: the store cannot be written.
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
            # Shielded: a write in progress completes, and its callers get the result.
            with trio.CancelScope(shield=True):
                done = await trio.to_thread.run_sync(self._commit, self._cursor, changes, kinds)
        except (_NewerError, _NotKnownError) as error:
            undone()
            self.draft.back_to(0)
            if isinstance(error, _NewerError):
                self._take_foreign(error.events)
                self.evidence.note_newer(*kinds)
            else:
                _log.debug("the decisions are delayed: %s", error.__cause__)
                self.evidence.fail(*kinds)
            raise OutOfDateError from error
        except (Conflict, Unknown) as stopped:
            undone()
            self.draft.back_to(0)
            self._note(changes, stopped.done)
            with trio.CancelScope(shield=True):
                # A store with transactions may stop at a later change than the first one that was not made.
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
        self._counters.writes.observe(time.perf_counter() - began)
        if self.trouble:
            self.trouble = ""
            _log.warning("the store can be written to again")
        self._note(changes, done)

    async def _look_for_store(self) -> None:
        """The failed change is obsolete: clear `trouble` when the store can be read."""
        try:
            await trio.to_thread.run_sync(self._store.read, (Drain, Drain.KEY))
        except StoreError as error:
            self._refuse(error)
        else:
            self.trouble = ""
            _log.warning("the store answers again")

    def _refuse(self, error: StoreError) -> None:
        """A write failed: log it once. It is repeated every second."""
        self._trouble_passes = error.passes
        if str(error) != self.trouble:
            self.trouble = str(error)
            _log.error("%s", error)
        self._counters.failed_writes += 1

    def _batch(self) -> list[Change]:
        changes = []
        for ref, half, record, stage in batch(self.draft):
            self._requests += 1
            request = f"{self._id}-{self._requests}"
            changes.append(Change(ref, half, record, self._known.revision(ref), request, stage))
        return changes

    def _note(self, changes: Sequence[Change], done: Sequence[Written | None]) -> None:
        """Publish the changes of a batch that were written. If the batch was cut, apply them to the draft first."""
        made = [(one, written) for one, written in zip(changes, done, strict=False) if written is not None]
        self.written |= {(one.ref, one.half) for one, _ in made}
        whole = len(made) == len(changes)
        if not whole and any(one.ref[0] is Policy for one in changes):
            self.evidence.note_policies()
        events: dict[RecordRef, StoreEvent] = {}
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
            events[ref] = StoreEvent(ref, revision, stored)
        self._take(list(events.values()))

    async def _look_at(self, change: Change, stopped: Conflict | Unknown) -> None:
        """Read the record at which a batch stopped. It may have been written nevertheless."""
        try:
            stored = await trio.to_thread.run_sync(self._store.read, change.ref)
        except DamagedError as error:
            self._leave_alone(change.ref, error)
            return
        except StoreError as error:
            self._refuse(error)
            raise
        if stored is None:  # unknown who deleted it
            is_made = change.record is None and isinstance(stopped, Unknown)
        else:
            is_made = stored.request == change.request
        if is_made:
            self.written.add((change.ref, change.half))
        self._take_foreign([self._known.event(change.ref, stored)])
        self.draft.undone += 1

    def _leave_alone(self, ref: RecordRef, error: DamagedError) -> None:
        """The record is damaged: keep its last version, and do not write it until it can be read again."""
        kind, key = ref
        why = f"{kind.KIND} {key} is damaged in the controller's store, and cannot be changed until it is repaired"
        self.draft.damaged[ref] = f"{why}; the controller's log has details for the lab's administrator"
        self.draft.undone += 1
        self._known.distrust(ref)
        self._repairs_due = time.monotonic() + RETRY_SECONDS
        _log.error("%s; other records are not affected: %s", why, error)

    async def _is_repaired(self) -> bool:
        """Check damaged records. Returns whether one of them can be read again."""
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
        """Whether the store has that record, even if it is not known here yet. Not for a store of one thread.

        When cancelled, its thread is abandoned.
        """
        try:
            found = await trio.to_thread.run_sync(
                self._store.read, ref, abandon_on_cancel=True, limiter=self._finding
            )
            return found is not None
        except StoreError:
            return True

    async def look_for_absent(self) -> bool:
        """Look up the records that the decisions take for missing. Returns True if one exists.

        The draft then contains it, and its own changes are undone. A record that cannot be read stays unknown.
        """
        found: list[StoreEvent] = []
        due = time.monotonic() + LOOK_SECONDS
        for number, ref in enumerate(list(self.evidence.refs)):
            if number and time.monotonic() >= due:
                self.evidence.fail(*self.evidence.refs)
                break
            try:
                stored = await trio.to_thread.run_sync(self._store.read, ref)
            except StoreError as error:
                _log.debug("unknown whether %s %s exists: %s", ref[0].KIND, ref[1], error)
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

    def _is_news(self, events: Sequence[StoreEvent]) -> bool:
        return bool(events) and bool(self._known.copy().take(events))

    def _commit(
        self, cursor: Cursor, changes: Sequence[Change], kinds: Collection[type[Record]]
    ) -> Sequence[Written]:
        """In a thread: write the changes, unless the store has newer records of these kinds."""
        if kinds:
            try:
                newer = self._newer(cursor, kinds)
            except StoreError as error:
                raise _NotKnownError from error
            if self._is_news(newer):
                raise _NewerError(newer)
        return self._store.commit(changes) if changes else ()

    def _newer(self, cursor: Cursor, kinds: Collection[type[Record]]) -> Sequence[StoreEvent]:
        try:
            return self._store.newer(cursor, kinds)
        except TooOldError:
            return self._known.since(self._store.snapshot(whole=False))

    async def look_for_repairs(self) -> float | None:
        """Check damaged records. Returns the seconds until the next turn; None: no turn is needed without news."""
        if await self._is_repaired():
            return 0.0
        is_open = self.evidence.is_open or self.draft.damaged or self.trouble
        return RETRY_SECONDS if is_open else None

    def _take(self, events: Sequence[StoreEvent]) -> Collection[RecordRef]:
        """Apply events of the store to the draft, and publish them. Returns the records that have changed."""
        news = self._known.take(events)
        for (kind, key), record in news.items():
            if self.draft.damaged.pop((kind, key), None) is not None:
                self.draft.undone += 1
                _log.warning("%s %s is repaired", kind.KIND, key)
            if self.draft.get(kind, key) is not record:
                self.draft.set(kind, key, record)
        if news:
            self._publish(news)
        return news
