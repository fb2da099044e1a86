"""A store in memory that fulfils the whole contract, for tests."""

from __future__ import annotations

import copy
import threading
from collections.abc import Collection, Sequence
from itertools import count
from typing import Self

from jumpstarter_controller.lab import Record
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.store.contract import (
    Change,
    Conflict,
    Cursor,
    Snapshot,
    Stored,
    StoreEvent,
    TooOldError,
    WatchResult,
    Written,
    applied,
)

__all__ = ["MemoryStore"]

MAX_EVENTS = 10_000
"""Events that are kept. A reader that is further behind has to take a snapshot."""


class MemoryStore:
    """A store for one user. `another` gives a second user access to the same records."""

    def __init__(self, most_events: int = MAX_EVENTS) -> None:
        self._most_events = most_events
        self._records: dict[RecordRef, Stored] = {}
        self._events: list[StoreEvent] = []
        self._numbers = count(1)
        self._changed = threading.Condition()
        self._woken = False
        self._wakes = 0

    def another(self) -> Self:
        """The same records for another user. `wake` of one does not affect the other."""
        return copy.copy(self)

    @property
    def _forgotten(self) -> int:
        """The number of events that were dropped. Event numbers are consecutive."""
        return self._events[0].revision - 1 if self._events else 0

    def snapshot(self, *, whole: bool = True) -> Snapshot:
        """As `Store.snapshot`."""
        with self._changed:
            return Snapshot(dict(self._records), self._forgotten + len(self._events))

    def read(self, ref: RecordRef) -> Stored | None:
        """As `Store.read`."""
        with self._changed:
            return self._records.get(ref)

    def commit(self, changes: Sequence[Change]) -> Sequence[Written]:
        """As `Store.commit`; changes before a conflict stay, as in Kubernetes."""
        done: list[Written] = []
        for change in changes:
            done.append(self._make(change, done))
        return done

    def _make(self, change: Change, done: Sequence[Written]) -> Written:
        ref = change.ref
        with self._changed:
            stored = self._records.get(ref)
            seen = change.revision
            for one in done:
                if one.ref == ref:
                    seen = stored.revision if stored is not None else None
            is_gone = stored is None and change.record is None
            if is_gone or seen != (None if stored is None else stored.revision):
                raise Conflict(ref, tuple(done))
            number = next(self._numbers)
            record = applied(None if stored is None else stored.record, change, number)
            event = StoreEvent(ref, number, Stored(record, number, change.request) if record else None)
            if event.stored is None:
                del self._records[ref]
            else:
                self._records[ref] = event.stored
            self._events.append(event)
            if len(self._events) > self._most_events:
                del self._events[0]
            self._changed.notify_all()
            return Written(ref, number, number)

    def watch(self, cursor: Cursor, seconds: float) -> WatchResult:
        """As `Store.watch`; includes the caller's own changes."""
        if not isinstance(cursor, int):
            raise TooOldError
        with self._changed:
            wakes, woken = self._wakes, self._woken
            self._woken = False  # who waits already leaves that to who is about to
            self._changed.wait_for(
                lambda: woken or self._wakes != wakes or self._forgotten + len(self._events) > cursor,
                seconds,
            )
            return WatchResult(self._since(cursor), self._forgotten + len(self._events))

    def newer(self, cursor: Cursor, kinds: Collection[type[Record]]) -> Sequence[StoreEvent]:
        """As `Store.newer`."""
        with self._changed:
            return [one for one in self._since(cursor) if one.ref[0] in kinds]

    def _since(self, cursor: Cursor) -> Sequence[StoreEvent]:
        end = self._forgotten + len(self._events)
        if not isinstance(cursor, int) or not self._forgotten <= cursor <= end:
            raise TooOldError
        return tuple(self._events[cursor - self._forgotten :])

    def wake(self) -> None:
        """As `Store.wake`."""
        with self._changed:
            self._woken = True
            self._wakes += 1
            self._changed.notify_all()

    def close(self) -> None:
        """As `Store.close`; the records stay, for the next."""
        self.wake()
