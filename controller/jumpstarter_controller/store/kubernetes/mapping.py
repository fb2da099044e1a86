"""Records as objects of Kubernetes, and back. No I/O.

Those of `jumpstarter.dev` are Jumpstarter's own, field for field, so that its tools and its controller read them.
What a record has beside that is in annotations if it belongs to the spec. A write of a status cannot touch
annotations, so what belongs to it is in a condition of its own, `lab.jumpstarter.dev/Written`, with the id of the
request. Hosts, pairing codes, devices and the drain are objects of a group of ours.

A uid is that of the object, unless a record has another one: then it is in the annotation in which Jumpstarter's own
controller looks for the uid that tokens name, too.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import msgspec
from jumpstarter_proto.json_texts import decode_json

from jumpstarter_controller.lab import Key, Record
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.store.contract import Half, Stored, aged, check_bounds, defaults_of, values_of
from jumpstarter_controller.store.kubernetes.fields import PREFIX, Field, Object, dig, note
from jumpstarter_controller.store.kubernetes.texts import read_time

__all__ = ["API_VERSION", "GROUP", "LAB_GROUP", "Mapping", "NoRecordError", "place_of", "revision_of"]

GROUP = "jumpstarter.dev"
LAB_GROUP = "lab.jumpstarter.dev"
API_VERSION = "v1alpha1"
READABLE = f"{PREFIX}Readable"
"""The type of the condition of an object that is not a valid record."""
WRITTEN = f"{PREFIX}Written"
"""The type of the condition that has our fields of a status."""
AGE_TICKS_PER_SECOND = 1_000_000
"""An age is in microseconds, as two leases may be made within a millisecond."""

_REQUEST = note("request")
_AGE = note("age", int)
_CREATED = note("created", float)
_UID = note("uid")


class NoRecordError(ValueError):
    """An object is not a valid record, or is being deleted; the message says why."""


@dataclass(frozen=True)
class Mapping:
    """One kind of record. Fields that are not named here are spread over what each kind does itself."""

    record: type[Record]
    group: str
    plural: str
    kind: str
    spec: dict[str, Field]
    status: dict[str, Field] = field(default_factory=dict)
    marked: tuple[str, ...] = ()
    """Of the status: what is in the mark."""
    uid: Field = _UID
    is_of_the_lab: bool = False
    """Its records have no namespace."""

    def read(self, item: Object) -> Stored:
        """The record of an object.

        Raises:
            NoRecordError: it is none; says why.
        """
        if dig(item, "metadata", "deletionTimestamp") is not None:
            raise NoRecordError("it is being deleted")
        try:
            _check_shape(item)
            values = self.values(item)
            record = msgspec.convert(values, self.record)
            check_bounds(record)
            request = self._last_request(item)
            return Stored(aged(record, self.age(item)), revision_of(item), request)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise NoRecordError(str(error)) from None

    def values(self, item: Object) -> dict[str, Any]:
        """The record's fields by name. ValueError: one cannot be read."""
        metadata = item["metadata"]
        found: dict[str, Any] = {
            "namespace": "" if self.is_of_the_lab else metadata["namespace"],
            "name": metadata["name"],
        }
        uid = self.uid.read(item)
        found["uid"] = metadata["uid"] if uid is None else uid
        created = _CREATED.read(item)
        found["created"] = read_time(metadata["creationTimestamp"]) if created is None else created
        for name, one in (self.spec | self.status).items():
            if (value := one.read(item)) is not None:
                found[name] = value
        mark = self.mark(item)
        found |= {name: mark[name] for name in self.marked if name in mark}
        return found

    def age(self, item: Object) -> int:
        """Which of two was made first."""
        try:
            age = _AGE.read(item)
        except ValueError:
            age = None
        return (
            round(read_time(item["metadata"]["creationTimestamp"]) * AGE_TICKS_PER_SECOND)
            if age is None
            else age
        )

    def made(self, record: Record, namespace: str, request: str, age: int) -> Object:
        """The object of a new record, with a status that says nothing."""
        item: Object = {
            "apiVersion": f"{self.group}/{API_VERSION}",
            "kind": self.kind,
            "metadata": {"name": record.name, "namespace": namespace},
            "spec": {},
        }
        usual = defaults_of(self.record)
        for name, value in values_of(record, Half.SPEC).items():
            if name in self.spec and value != usual.get(name, msgspec.UNSET):
                self.spec[name].write(item, value)
        self.uid.write(item, record.uid)
        _CREATED.write(item, record.created)
        _AGE.write(item, age)
        self._note_request(item, request)
        self.project_spec(item, record)
        return item

    def changed(self, item: Object, record: Record, half: Half, request: str, now: float) -> Object:
        """The object with that half of the record; all that is not the record's stays as it is.

        Raises:
            NoRecordError: the object is not a valid record.
        """
        before = self.read(item).record
        item = copy.deepcopy({key: value for key, value in item.items() if value is not None})
        usual, was = defaults_of(self.record), values_of(before, half)
        news = {name: value for name, value in values_of(record, half).items() if value != was[name]}
        fields = self.spec if half is Half.SPEC else self.status
        for name, value in news.items():
            if name in fields:
                is_usual = value == usual.get(name, msgspec.UNSET)
                fields[name].write(item, None if is_usual else value)
        if half is Half.SPEC:
            if "uid" in news:
                self.uid.write(item, None if record.uid == item["metadata"]["uid"] else record.uid)
            if "created" in news:
                _CREATED.write(item, record.created)
            self._note_request(item, request)
            self.project_spec(item, record)
        elif self.has_mark:
            self.write_status(item, record, news, now)
            mark = {"request": request, "after": _REQUEST.read(item) or ""} | self.marks(item, record)
            self.write_mark(item, mark, now)
        else:
            self._note_request(item, request)
        return item

    @property
    def has_mark(self) -> bool:
        """A status of it can be written."""
        return True

    def _note_request(self, item: Object, request: str) -> None:
        _REQUEST.write(item, request or None)

    def _last_request(self, item: Object) -> str:
        spec, mark = str(_REQUEST.read(item) or ""), self.mark(item)
        return str(mark["request"]) if "request" in mark and mark.get("after", "") == spec else spec

    # What each kind may do itself

    def mark(self, item: Object) -> dict[str, Any]:
        """Return our fields of the status."""
        found = dig(item, "status", "written")
        return found if isinstance(found, dict) else {}

    def marks(self, item: Object, record: Record) -> dict[str, Any]:
        """Return the fields of a record that are kept in our part of the status."""
        usual, values = defaults_of(self.record), values_of(record, Half.STATUS)
        return {
            name: msgspec.to_builtins(values[name]) for name in self.marked if values[name] != usual[name]
        }

    def write_mark(self, item: Object, mark: dict[str, Any], now: float) -> None:
        """Write our fields into the status."""
        item.setdefault("status", {})["written"] = mark

    def flagged(self, item: Object, why: str, now: float) -> Object:
        """Return the object with a condition that says why it is invalid; without the condition if `why` is empty."""
        return item

    def labelled(self, item: Object) -> Object:
        """The object with the labels that follow from its status, which no write of a status can set."""
        return item

    def write_status(self, item: Object, record: Record, news: dict[str, Any], now: float) -> None:
        """What of the status is more than a field; `news` is what of the record is another than before."""

    def project_spec(self, item: Object, record: Record) -> None:
        """What is in the object for others to read, and not read back."""


def _check_shape(item: Object) -> None:
    """ValueError if a part that is written to is none of its kind; no API server lets that in."""
    parts = (("metadata",), ("metadata", "labels"), ("metadata", "annotations"), ("spec",), ("status",))
    for path in parts:
        if not isinstance(dig(item, *path), dict | None):
            raise ValueError(f"its {path[-1]} has no fields")  # noqa: TRY004 - it is data


def mark_in_conditions(item: Object) -> dict[str, Any]:
    """What the condition of ours has in it."""
    for one in dig(item, "status", "conditions") or ():
        if isinstance(one, dict) and one.get("type") == WRITTEN:
            return decode_json(str(one.get("message", "")), dict[str, Any])
    return {}


def place_of(mapping: Mapping, item: Object) -> RecordRef:
    """Where its record stands. ValueError: it has no name."""
    namespace, name = (
        ("" if mapping.is_of_the_lab else dig(item, "metadata", "namespace")),
        dig(item, "metadata", "name"),
    )
    if not isinstance(namespace, str) or not isinstance(name, str):
        raise ValueError("an object has no name")  # noqa: TRY004 - it is data
    return mapping.record, Key(namespace, name)


def revision_of(item: Object) -> int:
    """Of one object a later one is greater (KEP-5504: resource versions can be compared). ValueError: it has none."""
    return int(str(dig(item, "metadata", "resourceVersion")))
