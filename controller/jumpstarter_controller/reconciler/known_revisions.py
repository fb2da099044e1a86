"""Which records a controller knows of its store, so that nothing old takes the place of something newer. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jumpstarter_controller.lab import Record
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.store.contract import Event, Snapshot, Stored

__all__ = ["Known"]

MAX_DELETED = 10_000
"""Nothing comes so late."""


class Known:
    """The revision of each record as it was seen last."""

    def __init__(self, records: Mapping[RecordRef, Stored]) -> None:
        self._revisions = {ref: stored.revision for ref, stored in records.items()}
        self._gone: dict[RecordRef, int] = {}
        """Of records that are gone, until the store has said so."""

    def copy(self) -> Known:
        """As it is now."""
        copy = Known({})
        copy._revisions, copy._gone = dict(self._revisions), dict(self._gone)
        return copy

    def distrust(self, ref: RecordRef) -> None:
        """Somebody has changed it, nobody knows how: what is read of it next is new, even if its revision is not."""
        if ref in self._revisions:
            self._revisions[ref] -= 1

    def revision(self, ref: RecordRef) -> int | None:
        """What a change of it is made upon; None if there is no such record."""
        return self._revisions.get(ref)

    def take(self, events: Sequence[Event]) -> dict[RecordRef, Record | None]:
        """What is new in these: each record as it is now, None where it is gone."""
        news: dict[RecordRef, Record | None] = {}
        for event in events:
            ref = event.ref
            if event.revision <= self._revisions.get(ref, -1):
                continue
            if (gone := self._gone.get(ref)) is not None and event.revision <= gone:
                if event.stored is None:
                    del self._gone[ref]  # whatever else comes is newer
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

    def event(self, ref: RecordRef, stored: Stored | None) -> Event:
        """What was read of a record, as an event."""
        if stored is not None:
            return Event(ref, stored.revision, stored)
        return Event(ref, self._revisions.get(ref, 0) + 1, None)

    def since(self, snapshot: Snapshot) -> list[Event]:
        """What a snapshot that was taken later has changed; a record that it has not, not even damaged, is gone."""
        found = [Event(ref, stored.revision, stored) for ref, stored in snapshot.records.items()]
        gone = self._revisions.keys() - snapshot.records.keys() - snapshot.damaged
        return [*found, *(self.event(ref, None) for ref in gone)]
