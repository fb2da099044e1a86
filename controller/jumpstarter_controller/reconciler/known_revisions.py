"""The record revisions that a controller has seen, so that an old event never replaces a newer record. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jumpstarter_controller.lab import Record
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.store.contract import Snapshot, Stored, StoreEvent

__all__ = ["KnownRevisions"]

MAX_DELETED = 10_000
"""Deleted records that are remembered. Events that are later than this do not occur."""


class KnownRevisions:
    """The last seen revision of each record."""

    def __init__(self, records: Mapping[RecordRef, Stored]) -> None:
        self._revisions = {ref: stored.revision for ref, stored in records.items()}
        self._gone: dict[RecordRef, int] = {}
        """Revisions of deleted records, until the store's event of the deletion has arrived."""

    def copy(self) -> KnownRevisions:
        """An independent copy."""
        copy = KnownRevisions({})
        copy._revisions, copy._gone = dict(self._revisions), dict(self._gone)
        return copy

    def distrust(self, ref: RecordRef) -> None:
        """Take the next read of this record as new, even if its revision is the same."""
        if ref in self._revisions:
            self._revisions[ref] -= 1

    def revision(self, ref: RecordRef) -> int | None:
        """The last seen revision of a record; None: there is no such record."""
        return self._revisions.get(ref)

    def take(self, events: Sequence[StoreEvent]) -> dict[RecordRef, Record | None]:
        """Take in events. Returns the records that are new; None: deleted."""
        news: dict[RecordRef, Record | None] = {}
        for event in events:
            ref = event.ref
            if event.revision <= self._revisions.get(ref, -1):
                continue
            if (gone := self._gone.get(ref)) is not None and event.revision <= gone:
                if event.stored is None:
                    del self._gone[ref]  # all later events are newer
                continue
            self._gone.pop(ref, None)
            if event.stored is not None:
                self._revisions[ref] = event.revision
                news[ref] = event.stored.record
                continue
            self._gone[ref] = event.revision
            if len(self._gone) > MAX_DELETED:
                del self._gone[next(iter(self._gone))]
            if self._revisions.pop(ref, None) is not None:
                news[ref] = None
        return news

    def event(self, ref: RecordRef, stored: Stored | None) -> StoreEvent:
        """The event for a record that was read."""
        if stored is not None:
            return StoreEvent(ref, stored.revision, stored)
        return StoreEvent(ref, self._revisions.get(ref, 0) + 1, None)

    def since(self, snapshot: Snapshot) -> list[StoreEvent]:
        """The events that lead to a later snapshot. Records that are neither in it nor damaged are deleted."""
        found = [StoreEvent(ref, stored.revision, stored) for ref, stored in snapshot.records.items()]
        gone = self._revisions.keys() - snapshot.records.keys() - snapshot.damaged
        return [*found, *(self.event(ref, None) for ref in gone)]
