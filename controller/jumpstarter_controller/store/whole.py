"""Reads and overwrites whole stores, for backups and tests."""

from __future__ import annotations

from collections.abc import Mapping

from jumpstarter_controller.lab import Draft, Record
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.store.contract import Change, Half, Snapshot, Store, key_of

__all__ = ["draft_of", "fill", "lab_of", "overwrite"]


def lab_of(store: Store) -> Draft:
    """All records of a store. Raises as `Store.snapshot`."""
    return draft_of(store.snapshot())


def draft_of(snapshot: Snapshot) -> Draft:
    """The records of a snapshot."""
    draft = Draft()
    for (kind, key), stored in snapshot.records.items():
        draft.set(kind, key, stored.record)
    return draft


def overwrite(store: Store, records: Mapping[RecordRef, Record | None]) -> None:
    """Write both halves of these records, or delete them (None). New leases are younger than all others.

    Raises:
        Conflict, Unknown, StoreError: as `Store.commit`; some records may have been written.
    """
    known = store.snapshot().records
    changes: list[Change] = []
    for ref, record in sorted(records.items(), key=lambda one: getattr(one[1], "sequence", 0)):
        revision = known[ref].revision if ref in known else None
        if record is not None:
            changes += [Change(ref, half, record, revision) for half in Half]
        elif revision is not None:
            changes.append(Change(ref, Half.SPEC, None, revision))
    store.commit(changes)


def fill(store: Store, *records: Record) -> None:
    """Write these records with `overwrite`."""
    overwrite(store, {key_of(record): record for record in records})
