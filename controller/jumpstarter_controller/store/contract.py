"""The contract of a store. It asks for no more than Kubernetes can guarantee. All calls block: use a thread.

A record has two halves: its **spec** (what was requested) and its **status** (the outcome). A change compares and swaps
one half of one record by the record's revision. A batch is an ordered list of changes, and not a transaction: the store
may stop after any of them. Adjacent changes of the same **stage** have no order: when a batch stops at a stage, any of
its changes may have been made. Other processes may write to the same store.

Names, labels and selectors have to be valid in Kubernetes. A store may be limited to one namespace.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from msgspec import NODEFAULT
from msgspec.structs import fields, replace

from jumpstarter_controller.lab import ExporterDevices, Key, Lease, Policy, Record
from jumpstarter_controller.lab.tables import RecordRef

__all__ = [
    "Change",
    "Conflict",
    "DamagedError",
    "Half",
    "Snapshot",
    "Store",
    "StoreError",
    "StoreEvent",
    "StoreFullError",
    "Stored",
    "TooOldError",
    "Unknown",
    "WatchResult",
    "Written",
    "aged",
    "applied",
    "blank",
    "check_bounds",
    "defaults_of",
    "differs",
    "key_of",
    "max_bytes",
    "merged",
    "stages",
    "values_of",
]

R = TypeVar("R", bound=Record)
MAX_PRIORITY = 2**31 - 1
"""Messages have 32 bits for it."""
MAX_RECORD_TIME_SECONDS = 253402300799
"""The end of the year 9999, in seconds since the epoch: the largest number in a record."""
MAX_NAME_LENGTH = 253
"""Characters, as in Kubernetes."""
MAX_HALF_BYTES = 512 * 1024
"""Several records of this size fit into one gRPC message."""
_MAX_BYTES = {ExporterDevices: 2 * 1024 * 1024, Policy: 8 * 1024 * 1024}
"""Larger limits for kinds that are sent in messages of their own."""


class Half(enum.Enum):
    """A half of a record. Labels and identity belong to the spec."""

    SPEC = "spec"
    STATUS = "status"


class Stored(NamedTuple):
    """A record in the store."""

    record: Record
    revision: int
    """Revision of the record, for both halves together. It increases with each change."""
    request: str = ""
    """The request id of the last change."""


class Change(NamedTuple):
    """The new version of one half of a record, or its deletion."""

    ref: RecordRef
    half: Half
    """A deletion is a change of the spec."""
    record: Record | None
    """The new version, of which only this half is written; None: delete the record."""
    revision: int | None
    """The expected revision; None: create the record, with an empty status.

    After an earlier change of the same record in the batch, the revision of that change is expected instead.
    """
    request: str = ""
    """An id by which the change can be found after `Unknown`."""
    stage: int = 0
    """Adjacent changes with the same number, of different records, may be made in any order; 0: a stage of its own."""


class StoreEvent(NamedTuple):
    """A record was changed or deleted at that revision."""

    ref: RecordRef
    revision: int
    stored: Stored | None

    @property
    def record(self) -> Record | None:
        """The record; None: it was deleted."""
        return None if self.stored is None else self.stored.record


class Written(NamedTuple):
    """The result of a change: the new revision, and the age of a created record."""

    ref: RecordRef
    revision: int
    age: int = 0


Cursor = Hashable
"""A position in the history of a store. Opaque to its users."""


@dataclass(frozen=True)
class Snapshot:
    """All records at one moment, consistent."""

    records: Mapping[RecordRef, Stored]
    cursor: Cursor
    damaged: frozenset[RecordRef] = frozenset()
    """References of records that are unreadable."""


@dataclass(frozen=True)
class WatchResult:
    """Changes since a cursor. Several changes of one record may be merged into the last one."""

    events: Sequence[StoreEvent]
    cursor: Cursor
    trouble: str = ""
    """Why there may be more changes that cannot be read; empty: these are all."""


class StoreError(JumpstarterError):
    """The store cannot be read or written. Changes that are not in `done` were not made."""

    status = "UNAVAILABLE"
    exit_code = ExitCode.FAILED

    done: Sequence[Written | None] = ()
    """Results of the batch, as far as it got; None: a change of the last stage that was not made."""
    passes = False
    """Whether a successful read shows that the error is over. Otherwise only a write does."""


class DamagedError(StoreError):
    """The stored record is damaged. Other records can be read and written."""


class StoreFullError(StoreError):
    """There is no space for the change."""

    status = "RESOURCE_EXHAUSTED"


@dataclass
class _Stopped(Exception):  # noqa: N818 - of the two below
    ref: RecordRef
    """The change at which the batch stopped."""
    done: Sequence[Written | None] = field(default_factory=tuple)
    """Results of the batch so far; None: a change of the last stage that was not made, as far as is known."""
    also: Sequence[Conflict | Unknown] = ()
    """Other changes of that stage with the same problem."""


class Conflict(_Stopped):
    """The record was changed, created or deleted by another writer."""


class Unknown(_Stopped):
    """It is unknown whether the change was made: read the record again, and compare its request id."""


class TooOldError(Exception):
    """The cursor is too old or invalid: take a snapshot."""


class Store(Protocol):
    """Records that other processes may change, too. One thread may call `watch` while another calls the rest."""

    def snapshot(self, *, whole: bool = True) -> Snapshot:
        """All records, including the caller's own committed changes. Without `whole`, damaged records are left out.

        Raises:
            StoreError: the store cannot be read; with `whole`, also if a record is damaged.
        """

    def read(self, ref: RecordRef) -> Stored | None:
        """The current version of a record, never a cached one; None: it does not exist.

        Raises:
            DamagedError: the record is damaged.
            StoreError: the store cannot be read.
        """

    def commit(self, changes: Sequence[Change]) -> Sequence[Written]:
        """Make these changes in order. Returns the result of each.

        Raises:
            Conflict, Unknown: the batch stopped at a change.
            StoreError: the batch stopped because the store cannot be written.
        """

    def watch(self, cursor: Cursor, seconds: float) -> WatchResult:
        """Wait for changes of others since the cursor, at most `seconds`.

        Changes of one kind are in order; those of different kinds may be delayed against each other. The caller's own
        changes may be included.

        Raises:
            TooOldError: take a snapshot.
            StoreError: the store cannot be read.
        """

    def newer(self, cursor: Cursor, kinds: Collection[type[Record]]) -> Sequence[StoreEvent]:
        """All changes of these kinds since the cursor. Unlike `watch`, no change is delayed.

        The caller's own changes may be included. Raises as `watch`.
        """

    def wake(self) -> None:
        """Make the waiting `watch`, or else the next one, return at once. A `commit` that waits for a lock gives up."""

    def close(self) -> None:
        """Close the store. It must not be used afterwards."""


def stages(changes: Sequence[Change]) -> list[list[Change]]:
    """Split a batch into its stages. The changes of one stage have no order."""
    found: list[list[Change]] = []
    for change in changes:
        if found and change.stage and found[-1][-1].stage == change.stage:
            found[-1].append(change)
        else:
            found.append([change])
    return found


def applied(before: Record | None, change: Change, age: int) -> Record | None:
    """A record after a change; None: deleted. `age` is the age of a created record."""
    record = change.record
    if record is None:
        return None
    if before is None:
        return aged(blank(record), age)
    pair = (record, before) if change.half is Half.SPEC else (before, record)
    return aged(merged(*pair), getattr(before, "sequence", 0))


def merged(spec: R, status: R) -> R:
    """A record with the spec of one record and the status of another."""
    return replace(spec, **values_of(status, Half.STATUS))


def blank(record: R) -> R:
    """The record with an empty status, as it is created."""
    return replace(record, **_nothing(type(record)))


def aged(record: R, age: int) -> R:
    """The record with its age, which gives leases their order. Other kinds have no age."""
    return replace(record, sequence=age) if isinstance(record, Lease) else record


def differs(one: Record, other: Record, half: Half) -> bool:
    """Whether that half differs between two records of a kind. Called often: keep it fast."""
    if not (get := _getter(type(one), half)):
        return False
    is_other: bool = get(one) != get(other)
    return is_other


def values_of(record: Record, half: Half) -> dict[str, Any]:
    """The fields of a half by name, without the age, which the store assigns."""
    names = fields_of(type(record), half)
    if not (get := _getter(type(record), half)):
        return {}
    return dict(zip(names, get(record), strict=True)) if len(names) > 1 else {names[0]: get(record)}


@cache
def fields_of(kind: type[Record], half: Half) -> tuple[str, ...]:
    """The field names of a half, without the age."""
    names = (name for name in kind.__struct_fields__ if name != "sequence")
    return tuple(name for name in names if (name in kind.STATUS) == (half is Half.STATUS))


@cache
def _getter(kind: type[Record], half: Half) -> Callable[[Record], Any] | None:
    names = fields_of(kind, half)
    return attrgetter(*names) if names else None


@cache
def _nothing(kind: type[Record]) -> dict[str, Any]:
    """An empty status. Do not modify the values."""
    return {name: value for name, value in defaults_of(kind).items() if name in kind.STATUS}


@cache
def defaults_of(kind: type[Record]) -> dict[str, Any]:
    """The default values of a kind's fields."""
    return {
        field.name: field.default if field.default is not NODEFAULT else field.default_factory()
        for field in fields(kind)
        if field.default is not NODEFAULT or field.default_factory is not NODEFAULT
    }


def check_bounds(record: Record) -> None:
    """Check the names and numbers of a record that another process wrote. ValueError: one is out of range."""
    if max(map(len, record.key)) > MAX_NAME_LENGTH:
        raise ValueError(f"its name or namespace has more than {MAX_NAME_LENGTH} characters")
    if not record.name:
        raise ValueError("it has no name")
    if not "".join(record.key).isprintable():  # no peer takes such a name
        raise ValueError("its name or namespace has characters that cannot be shown")
    parts: list[msgspec.Struct] = [record]
    if isinstance(record, Lease):
        parts += record.conditions
    elif isinstance(record, Policy):
        parts += record.rules
    for part in parts:
        for name in part.__struct_fields__:
            value = getattr(part, name)
            most = MAX_PRIORITY if name == "priority" else MAX_RECORD_TIME_SECONDS
            if isinstance(value, int | float) and not -most <= value <= most:
                raise ValueError(f"its {name} is {str(value)[:20]}")


def max_bytes(kind: type[Record]) -> int:
    """The size limit of one half of such a record, as JSON. Our own records are smaller."""
    return _MAX_BYTES.get(kind, MAX_HALF_BYTES)


def key_of(record: Record) -> RecordRef:
    """The reference of a record."""
    return type(record), Key(record.namespace, record.name)
