"""What the engine needs of a store, and no more than Kubernetes can give. Blocking: for a thread of one's own.

A record has two halves: its **spec**, what somebody asked for, and its **status**, what came of it. A change compares
and swaps one half of one record by the record's revision. Changes come in a batch, which is a list in order and no
transaction: it may stop behind any of them. Changes that stand together and are of one **stage** have no order among
themselves: of those of the stage at which a batch stops, any may have been made. Others may write, too.

Names, labels and selectors are such as Kubernetes takes. A store may refuse others, and may be of one namespace.
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
    "Event",
    "Half",
    "Seen",
    "Snapshot",
    "Store",
    "StoreError",
    "StoreFullError",
    "Stored",
    "TooOldError",
    "Unknown",
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
LATEST = 253402300799
"""The end of the year 9999 in seconds since the epoch; no number in a record is larger."""
MAX_NAME_LENGTH = 253
"""Characters, as in Kubernetes."""
MAX_HALF_BYTES = 512 * 1024
"""Several records fit into one message of gRPC."""
_MAX_BYTES = {ExporterDevices: 2 * 1024 * 1024, Policy: 8 * 1024 * 1024}
"""Of kinds that are sent one by one."""


class Half(enum.Enum):
    """Of a record. Its labels and its identity belong to the spec."""

    SPEC = "spec"
    STATUS = "status"


class Stored(NamedTuple):
    """A record as the store has it."""

    record: Record
    revision: int
    """Of the record, both halves together: a later one is greater."""
    request: str = ""
    """Who wrote it last, by the id that they gave."""


class Change(NamedTuple):
    """One half of one record as it is to be, or its end."""

    ref: RecordRef
    half: Half
    """The end of a record is a change of its spec."""
    record: Record | None
    """Of which only that half counts; None: it is to go."""
    revision: int | None
    """As which it was seen; None: there is none yet, and this makes it, with a status that says nothing.

    When a change before it in its batch is of the same record, that one's outcome counts instead.
    """
    request: str = ""
    """An id for `Unknown`."""
    stage: int = 0
    """Those beside it of the same one, all of other records, may be made in any order; 0: it has one of its own."""


class Event(NamedTuple):
    """A record is so, or is gone, since that revision."""

    ref: RecordRef
    revision: int
    stored: Stored | None

    @property
    def record(self) -> Record | None:
        """As it is; None: it is gone."""
        return None if self.stored is None else self.stored.record


class Written(NamedTuple):
    """What came of a change: the record's revision from then on, and the age of one that was made."""

    ref: RecordRef
    revision: int
    age: int = 0


Cursor = Hashable
"""How far somebody has seen. Only the store that gave it knows what it means."""


@dataclass(frozen=True)
class Snapshot:
    """All records at one moment."""

    records: Mapping[RecordRef, Stored]
    cursor: Cursor
    damaged: frozenset[RecordRef] = frozenset()
    """Places at which there is something that is no record."""


@dataclass(frozen=True)
class Seen:
    """What has happened since a cursor; of several changes of a record perhaps the last one only."""

    events: Sequence[Event]
    cursor: Cursor
    trouble: str = ""
    """Why there may be more that cannot be read; empty when that is all."""


class StoreError(JumpstarterError):
    """The store cannot be read or written; a change that was not `done` before was not made."""

    status = "UNAVAILABLE"
    exit_code = ExitCode.FAILED

    done: Sequence[Written | None] = ()
    """What came of the batch's changes, as far as it got; None: of its last stage, and not made."""
    passes = False
    """When nothing is to be written any more, it is over as soon as something can be read; otherwise with a write."""


class DamagedError(StoreError):
    """What is there is no record of a lab: somebody else has damaged it. Others can be read and written."""


class StoreFullError(StoreError):
    """There is no room for the change."""

    status = "RESOURCE_EXHAUSTED"


@dataclass
class _Stopped(Exception):  # noqa: N818 - of the two below
    ref: RecordRef
    """Of the change at which the batch stopped."""
    done: Sequence[Written | None] = field(default_factory=tuple)
    """What came of the batch's changes, as far as it got; None: of its last stage, and not made, as far as is known."""
    also: Sequence[Conflict | Unknown] = ()
    """Others of that stage at which it stopped."""


class Conflict(_Stopped):
    """The record is not as it was seen: somebody else has changed it, made it or taken it away."""


class Unknown(_Stopped):
    """Whether the change was made is not known: read the record again, and look at its request's id."""


class TooOldError(Exception):
    """What has happened since that cursor is not known any more, or the cursor is no cursor: take a snapshot."""


class Store(Protocol):
    """Records that others may change, too. One thread may `watch` while another calls the rest."""

    def snapshot(self, *, whole: bool = True) -> Snapshot:
        """Everything, or unless it is to be `whole`, all that is not damaged. Committed changes of one's own are in it.

        Raises:
            StoreError: it cannot be read; says what to do.
        """

    def read(self, ref: RecordRef) -> Stored | None:
        """The record as it is now, not as it was a moment ago.

        Raises:
            DamagedError: it is none.
            StoreError: as `snapshot`.
        """

    def commit(self, changes: Sequence[Change]) -> Sequence[Written]:
        """Make these changes in their order; what came of each.

        Raises:
            Conflict, Unknown: it stopped at one; says at which, and what came of the others.
            StoreError: it stopped, too.
        """

    def watch(self, cursor: Cursor, seconds: float) -> Seen:
        """What others have changed since then, as soon as there is something; nothing after so many seconds.

        Changes of one kind come in their order; of different kinds some may be late. The caller's own may come, too.

        Raises:
            TooOldError: take a snapshot.
            StoreError: as `snapshot`.
        """

    def newer(self, cursor: Cursor, kinds: Collection[type[Record]]) -> Sequence[Event]:
        """What others have changed of these kinds since then, as it is now: unlike `watch`, it is late with nothing.

        The caller's own changes may come, too. Raises as `watch`.
        """

    def wake(self) -> None:
        """The `watch` that waits returns at once, or else the next one; a `commit` that waits for others gives up."""

    def close(self) -> None:
        """Let go of it. Nobody uses it any more."""


def stages(changes: Sequence[Change]) -> list[list[Change]]:
    """A batch as what is made one behind the other; what is in one of them has no order."""
    found: list[list[Change]] = []
    for change in changes:
        if found and change.stage and found[-1][-1].stage == change.stage:
            found[-1].append(change)
        else:
            found.append([change])
    return found


def applied(before: Record | None, change: Change, age: int) -> Record | None:
    """A record after a change; None: it is gone. `age` is that of one that is made."""
    record = change.record
    if record is None:
        return None
    if before is None:
        return aged(blank(record), age)
    pair = (record, before) if change.half is Half.SPEC else (before, record)
    return aged(merged(*pair), getattr(before, "sequence", 0))


def merged(spec: R, status: R) -> R:
    """A record with the one's spec and the other's status."""
    return replace(spec, **values_of(status, Half.STATUS))


def blank(record: R) -> R:
    """The record as it is made: with a status that says nothing."""
    return replace(record, **_nothing(type(record)))


def aged(record: R, age: int) -> R:
    """The record with the key that says which of two is older; only of leases it matters."""
    return replace(record, sequence=age) if isinstance(record, Lease) else record


def differs(one: Record, other: Record, half: Half) -> bool:
    """Whether that half of two records of a kind is another. Often asked."""
    if not (get := _getter(type(one), half)):
        return False
    is_other: bool = get(one) != get(other)
    return is_other


def values_of(record: Record, half: Half) -> dict[str, Any]:
    """The fields of a half by name, without the age, which is the store's to say."""
    names = fields_of(type(record), half)
    if not (get := _getter(type(record), half)):
        return {}
    return dict(zip(names, get(record), strict=True)) if len(names) > 1 else {names[0]: get(record)}


@cache
def fields_of(kind: type[Record], half: Half) -> tuple[str, ...]:
    """The names of a half's fields, without the age."""
    names = (name for name in kind.__struct_fields__ if name != "sequence")
    return tuple(name for name in names if (name in kind.STATUS) == (half is Half.STATUS))


@cache
def _getter(kind: type[Record], half: Half) -> Callable[[Record], Any] | None:
    names = fields_of(kind, half)
    return attrgetter(*names) if names else None


@cache
def _nothing(kind: type[Record]) -> dict[str, Any]:
    """A status that says nothing. Its values are never changed."""
    return {name: value for name, value in defaults_of(kind).items() if name in kind.STATUS}


@cache
def defaults_of(kind: type[Record]) -> dict[str, Any]:
    """What a field of a kind is if nobody says otherwise."""
    return {
        field.name: field.default if field.default is not NODEFAULT else field.default_factory()
        for field in fields(kind)
        if field.default is not NODEFAULT or field.default_factory is not NODEFAULT
    }


def check_bounds(record: Record) -> None:
    """Check that somebody else's record has names and numbers that we can use. ValueError says which it has not."""
    if max(map(len, record.key)) > MAX_NAME_LENGTH:
        raise ValueError(f"its name or namespace has more than {MAX_NAME_LENGTH} characters")
    parts: list[msgspec.Struct] = [record]
    if isinstance(record, Lease):
        parts += record.conditions
    elif isinstance(record, Policy):
        parts += record.rules
    for part in parts:
        for name in part.__struct_fields__:
            value = getattr(part, name)
            if isinstance(value, int | float) and not -LATEST <= value <= LATEST:
                raise ValueError(f"its {name} is {str(value)[:20]}")


def max_bytes(kind: type[Record]) -> int:
    """How large one half of a record of that kind may be, as JSON. What we write ourselves is smaller."""
    return _MAX_BYTES.get(kind, MAX_HALF_BYTES)


def key_of(record: Record) -> RecordRef:
    """Where it stands."""
    return type(record), Key(record.namespace, record.name)
