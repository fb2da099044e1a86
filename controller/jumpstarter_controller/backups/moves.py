"""Plans the writes that turn the objects of a namespace into a lab. No I/O.

An interrupted export is recognised by its request ids, which are made with the lab's own key: its objects are
completed. Other objects belong to another lab, and are replaced only on request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from jumpstarter_controller.lab import (
    Client,
    Drain,
    Exporter,
    ExporterDevices,
    Host,
    LabState,
    Lease,
    PairingCode,
    Policy,
    Record,
)
from jumpstarter_controller.lab.tables import KINDS, RecordRef
from jumpstarter_controller.reconciler.batch import halves_of
from jumpstarter_controller.store import Change, Half, Snapshot
from jumpstarter_controller.store.contract import aged, key_of

__all__ = ["MOVING", "MovePlan", "is_same", "namespaces_of", "plan_of", "records_of", "request_of"]

MOVING = Drain(namespace="", name=Drain.KEY.name, reason="it is being moved; see its administrator")
"""During a move no lease begins, also if a controller is started."""
_ORDER: tuple[type[Record], ...] = (Policy, Client, Host, Exporter, ExporterDevices, PairingCode, Lease)
"""The order of creation: records that others refer to are first."""


@dataclass
class MovePlan:
    """The differences between a namespace and a lab."""

    changes: list[Change] = field(default_factory=list)
    """The changes to make, in order."""
    others: list[RecordRef] = field(default_factory=list)
    """Records of another lab, which are replaced or deleted."""
    done: int = 0
    """Records that already exist."""


def request_of(key: bytes) -> str:
    """The id of the requests that move the lab which signs with that key."""
    return f"export-{hashlib.sha256(key).hexdigest()[:12]}"


def namespaces_of(state: LabState) -> set[str]:
    """The namespaces that the records of a lab are in."""
    return {one.namespace for kind in _ORDER for one in state.all(kind)}


def records_of(state: LabState) -> Iterator[Record]:
    """Yield all records except the drain in the order of creation; leases in the order of the queue."""
    for kind in _ORDER:
        yield from sorted(state.all(kind), key=lambda one: (getattr(one, "sequence", 0), one.key))


def plan_of(state: LabState, there: Snapshot, request: str) -> MovePlan:
    """How to make the namespace of a snapshot that lab."""
    plan = MovePlan()
    wanted = {key_of(record): record for record in records_of(state)}
    for ref, record in wanted.items():
        stored = there.records.get(ref)
        if stored is not None and aged(stored.record, 0) == aged(record, 0):
            plan.done += 1
            continue
        if ref in there.damaged or (stored is not None and stored.request != request):
            plan.others.append(ref)
        before = None if stored is None else stored.record
        revision = None if stored is None else stored.revision
        plan.changes += [Change(ref, half, record, revision, request) for half in halves_of(before, record)]
    extra = [ref for ref in there.records.keys() | there.damaged if ref not in wanted]
    for ref in sorted(extra, key=lambda one: (-_rank(one), one[1])):
        stored = there.records.get(ref)
        if ref[0] is Drain:
            if (
                stored is not None
                and stored.request != request
                and state.get(Drain, Drain.KEY) != stored.record
            ):
                plan.others.append(ref)
            continue
        plan.others.append(ref)
        if stored is not None:
            plan.changes.append(Change(ref, Half.SPEC, None, stored.revision, request))
    return plan


def _rank(ref: RecordRef) -> int:
    return _ORDER.index(ref[0]) if ref[0] in _ORDER else -1


def is_same(state: LabState, records: Iterable[Record]) -> bool:
    """Whether these are the lab's records, apart from its drain."""
    ours = {key_of(one): aged(one, 0) for kind in KINDS for one in state.all(kind) if kind is not Drain}
    return ours == {key_of(one): aged(one, 0) for one in records if not isinstance(one, Drain)}
