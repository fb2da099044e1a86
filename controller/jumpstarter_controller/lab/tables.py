"""The tables of a lab: the committed records (`LabState`), and a draft on top of them (`Draft`) that can be undone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar, cast

from jumpstarter_controller.lab.records import (
    Client,
    Drain,
    Exporter,
    ExporterDevices,
    Host,
    Key,
    Lease,
    PairingCode,
    Policy,
    Record,
)

__all__ = ["Draft", "LabState", "RecordRef"]

R = TypeVar("R", bound=Record)
RecordRef = tuple[type[Record], Key]
KINDS: tuple[type[Record], ...] = (Client, Exporter, ExporterDevices, Lease, Policy, PairingCode, Host, Drain)


class LabState:
    """Records by kind and key. Iterate only between two checkpoints: other tasks change the tables."""

    def __init__(self) -> None:
        self._tables: dict[type[Record], dict[Key, Record]] = {kind: {} for kind in KINDS}
        self._claims: dict[Key, dict[Key, None]] = {}
        """By exporter: the active leases that name it. There are several if another process wrote them."""
        self._crowded: dict[Key, None] = {}
        self._held: dict[Key, Key] = {}
        self._open: dict[Key, None] = {}
        self._taken: dict[Key, Key] = {}
        self.generation = 0
        """Increases with each change of labels, policies and other inputs of `candidates.choices`."""
        self.last_sequence = 0
        """`sequence` of the newest lease."""
        self.damaged: dict[RecordRef, str] = {}
        """Records that are unreadable in the store, with the reason. Their last good version is kept here and cannot be
        changed."""

    def get(self, kind: type[R], key: Key) -> R | None:
        """The record; None if there is none."""
        return cast("R | None", self._tables[kind].get(key))

    def all(self, kind: type[R]) -> Iterator[R]:
        """All records of a kind, in every namespace."""
        return cast("Iterator[R]", iter(self._tables[kind].values()))

    def items(self, kind: type[R]) -> Iterator[tuple[Key, R]]:
        """All records of a kind with their keys. Faster than reading `key` of each record."""
        return cast("Iterator[tuple[Key, R]]", iter(self._tables[kind].items()))

    def count(self, kind: type[Record]) -> int:
        """The number of records of a kind."""
        return len(self._tables[kind])

    def holder(self, exporter: Key) -> Lease | None:
        """The active lease on an exporter."""
        lease = self._held.get(exporter)
        return None if lease is None else self.get(Lease, lease)

    def at_odds(self) -> list[Key]:
        """Exporters whose lease reference contradicts the leases, or that several active leases name."""
        if self._taken == self._held and not self._crowded:
            return []
        every = self._taken.keys() | self._held.keys()
        return sorted(
            key for key in every if key in self._crowded or self._taken.get(key) != self._held.get(key)
        )

    def open_leases(self) -> list[Lease]:
        """All leases that have not ended."""
        leases = (self.get(Lease, key) for key in self._open)
        return [lease for lease in leases if lease is not None]

    def set(self, kind: type[Record], key: Key, record: Record | None) -> None:
        """Replace a record, or remove it with None, without an entry for undo."""
        table = self._tables[kind]
        before = table.get(key)
        if record is None:
            table.pop(key, None)
        else:
            table[key] = record
        if kind is Lease:
            self._open.pop(key, None)
            if isinstance(before, Lease) and before.active:
                self._claim(Key(before.namespace, before.exporter), key, is_made=False)
            if isinstance(record, Lease):
                self.last_sequence = max(self.last_sequence, record.sequence)
                if record.ended is None:
                    self._open[key] = None
                if record.active:
                    self._claim(Key(record.namespace, record.exporter), key, is_made=True)
        elif _generation(before) != _generation(record):
            self.generation += 1
        if kind is Exporter:
            self._taken.pop(key, None)
            if isinstance(record, Exporter) and record.lease:
                self._taken[key] = Key(key.namespace, record.lease)
            if len(self._claims.get(key, ())) > 1:
                self._choose(key)

    def _claim(self, exporter: Key, lease: Key, *, is_made: bool) -> None:
        claims = self._claims.setdefault(exporter, {})
        if is_made:
            claims[lease] = None
        else:
            claims.pop(lease, None)
        self._choose(exporter)

    def _choose(self, exporter: Key) -> None:
        """Choose the holder among the leases that name an exporter: the one that it references, else the first."""
        claims = self._claims[exporter]
        if not claims:
            del self._claims[exporter]
            self._held.pop(exporter, None)
        else:
            taken = self._taken.get(exporter)
            self._held[exporter] = taken if taken in claims else next(iter(claims))
        if len(claims) > 1:
            self._crowded[exporter] = None
        else:
            self._crowded.pop(exporter, None)


def _generation(record: Record | None) -> object:
    if isinstance(record, Exporter):
        return record.uid, record.labels, record.enabled, record.devices > 0, record.gone_since
    if isinstance(record, ExporterDevices | PairingCode | Host | Drain):
        return None
    return record


class Draft(LabState):
    """A lab state with uncommitted changes. It records what changed since `commit` and can undo to any `mark`."""

    def __init__(self) -> None:
        super().__init__()
        self._undo: list[tuple[type[Record], Key, Record | None]] = []
        self.undone = 0
        """Increases whenever changes are undone."""

    def put(self, record: Record) -> None:
        """Add or replace a record. Putting the same object again has no effect."""
        kind = type(record)
        if self.get(kind, record.key) is record:
            return
        self._undo.append((kind, record.key, self.get(kind, record.key)))
        self.set(kind, record.key, record)

    def remove(self, record: Record) -> None:
        """Remove a record."""
        kind = type(record)
        self._undo.append((kind, record.key, self.get(kind, record.key)))
        self.set(kind, record.key, None)

    def mark(self) -> int:
        """The current position in the undo log, for `back_to`."""
        return len(self._undo)

    def back_to(self, mark: int) -> None:
        """Undo all changes after that mark."""
        self.undone += len(self._undo) > mark
        while len(self._undo) > mark:
            kind, key, before = self._undo.pop()
            self.set(kind, key, before)

    def changes(self) -> dict[RecordRef, Record | None]:
        """Records that changed since the last commit; None for removed ones."""
        return {(kind, key): self.get(kind, key) for kind, key, _ in self._undo}

    def before(self, mark: int = 0) -> dict[RecordRef, Record | None]:
        """Changed records as they were at that mark; None where there was none."""
        found: dict[RecordRef, Record | None] = {}
        for kind, key, record in self._undo[mark:]:
            found.setdefault((kind, key), record)
        return found

    def between(self, start: int, end: int) -> dict[RecordRef, tuple[Record | None, Record | None]]:
        """Records changed between two marks, as (before, after)."""
        later = self.before(end)
        found: dict[RecordRef, tuple[Record | None, Record | None]] = {}
        for kind, key, record in self._undo[start:end]:
            ref = (kind, key)
            after = later[ref] if ref in later else self.get(kind, key)
            found.setdefault(ref, (record, after))
        return found

    def restore_damaged(self) -> None:
        """Undo the changes of damaged records since the last commit, and only those."""
        if self.damaged:
            for ref, before in self.before().items():
                if ref in self.damaged:
                    self.set(*ref, before)

    def touched(self, kind: type[Record]) -> set[Key]:
        """Keys of a kind that were changed since the last commit."""
        return {key for of, key, _ in self._undo if of is kind}

    def commit(self) -> None:
        """Accept all changes and clear the undo log."""
        self._undo.clear()
