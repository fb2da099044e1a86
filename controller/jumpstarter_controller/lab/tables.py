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
    """Records by kind and key. Iterating is safe while nobody awaits."""

    def __init__(self) -> None:
        self._tables: dict[type[Record], dict[Key, Record]] = {kind: {} for kind in KINDS}
        self._claims: dict[Key, dict[Key, None]] = {}
        """By exporter: the active leases that say that they have it; more than one if others have written them."""
        self._crowded: dict[Key, None] = {}
        self._held: dict[Key, Key] = {}
        self._open: dict[Key, None] = {}
        self._taken: dict[Key, Key] = {}
        self.generation = 0
        """Grows whenever labels, policies or what else decides who may have which exporter changes."""
        self.last_sequence = 0
        """Of the newest lease."""
        self.damaged: dict[RecordRef, str] = {}
        """Records that somebody has damaged where they are kept, and why: they are here as they were before that, and
        cannot be changed."""

    def get(self, kind: type[R], key: Key) -> R | None:
        """The record, if there is one."""
        return cast("R | None", self._tables[kind].get(key))

    def all(self, kind: type[R]) -> Iterator[R]:
        """All of a kind, of every namespace."""
        return cast("Iterator[R]", iter(self._tables[kind].values()))

    def items(self, kind: type[R]) -> Iterator[tuple[Key, R]]:
        """All of a kind with their keys, which take longer to make than to look at."""
        return cast("Iterator[tuple[Key, R]]", iter(self._tables[kind].items()))

    def count(self, kind: type[Record]) -> int:
        """How many there are of a kind."""
        return len(self._tables[kind])

    def holder(self, exporter: Key) -> Lease | None:
        """The active lease on an exporter."""
        lease = self._held.get(exporter)
        return None if lease is None else self.get(Lease, lease)

    def at_odds(self) -> list[Key]:
        """The exporters that do not have the lease that they say they have, or that several leases say they have."""
        if self._taken == self._held and not self._crowded:
            return []
        every = self._taken.keys() | self._held.keys()
        return sorted(
            key for key in every if key in self._crowded or self._taken.get(key) != self._held.get(key)
        )

    def open_leases(self) -> list[Lease]:
        """All that have not ended."""
        leases = (self.get(Lease, key) for key in self._open)
        return [lease for lease in leases if lease is not None]

    def set(self, kind: type[Record], key: Key, record: Record | None) -> None:
        """Put, or with None remove, without a trace of what was there."""
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
        """Of those who say that they have an exporter, the one of which it says so has it, or else the first."""
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
    """A draft. It remembers what it changed since `commit`, and can go back to any `mark`."""

    def __init__(self) -> None:
        super().__init__()
        self._undo: list[tuple[type[Record], Key, Record | None]] = []
        self.undone = 0
        """Grows whenever something is undone."""

    def put(self, record: Record) -> None:
        """Add or replace; putting what is there changes nothing."""
        kind = type(record)
        if self.get(kind, record.key) is record:
            return
        self._undo.append((kind, record.key, self.get(kind, record.key)))
        self.set(kind, record.key, record)

    def remove(self, record: Record) -> None:
        """Take it out."""
        kind = type(record)
        self._undo.append((kind, record.key, self.get(kind, record.key)))
        self.set(kind, record.key, None)

    def mark(self) -> int:
        """A point to come back to."""
        return len(self._undo)

    def back_to(self, mark: int) -> None:
        """Undo all that was changed after that point."""
        self.undone += len(self._undo) > mark
        while len(self._undo) > mark:
            kind, key, before = self._undo.pop()
            self.set(kind, key, before)

    def changes(self) -> dict[RecordRef, Record | None]:
        """What is different from the last commit; None is what was removed."""
        return {(kind, key): self.get(kind, key) for kind, key, _ in self._undo}

    def before(self, mark: int = 0) -> dict[RecordRef, Record | None]:
        """What was there before the changes since that point; None where nothing was."""
        found: dict[RecordRef, Record | None] = {}
        for kind, key, record in self._undo[mark:]:
            found.setdefault((kind, key), record)
        return found

    def between(self, start: int, end: int) -> dict[RecordRef, tuple[Record | None, Record | None]]:
        """What was changed between two points, as it was before and behind them."""
        later = self.before(end)
        found: dict[RecordRef, tuple[Record | None, Record | None]] = {}
        for kind, key, record in self._undo[start:end]:
            ref = (kind, key)
            after = later[ref] if ref in later else self.get(kind, key)
            found.setdefault(ref, (record, after))
        return found

    def restore_damaged(self) -> None:
        """Undo what was changed of damaged records since the last commit, and nothing else."""
        if self.damaged:
            for ref, before in self.before().items():
                if ref in self.damaged:
                    self.set(*ref, before)

    def touched(self, kind: type[Record]) -> set[Key]:
        """Which of a kind were changed since the last commit."""
        return {key for of, key, _ in self._undo if of is kind}

    def commit(self) -> None:
        """What is here counts from now on."""
        self._undo.clear()
