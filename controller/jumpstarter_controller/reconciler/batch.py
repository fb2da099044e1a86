"""Orders the changes of a draft for writing. The store may stop after any of them. No I/O.

Each prefix of a batch is a valid state, from which the reconciler continues: the deciding record of a request comes
before its consequences. When a lease begins, the exporter's reference comes first and the lease's status second; when
it ends, the other way round (`scheduling/references.py`). A pairing code is marked as used before its object is
created. An object is deleted after what belongs to it, so that whoever deletes it again finds it. Policies come before
the leases that they end; those that allow more first, so that nobody is refused what both the old and the new ones
allow. Changes of one stage have no order: they are the same half of different leases, or of different exporters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from jumpstarter_controller.lab import (
    Draft,
    Exporter,
    ExporterDevices,
    Lease,
    PairingCode,
    Policy,
    Record,
    Rule,
)
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.store.contract import Half, blank, differs

__all__ = ["batch", "halves_of"]

_EXPORTERS, _LEASES, _ENDS, _REFERENCES, _BEGINNINGS = 1, 6, 7, 8, 9
"""Ranks of the halves of exporters and leases in a batch."""
_DELETIONS = {PairingCode: -3, ExporterDevices: -2, Exporter: -1, Policy: 5, Lease: 10}
"""Ranks of deletions; that of other kinds is `_OBJECTS`."""
_CODES, _OBJECTS = 0, 1
_ALLOWS_MORE, _ALLOWS_OTHER, _ALLOWS_LESS = 2, 3, 4
_UNORDERED = {_EXPORTERS, _LEASES, _ENDS, _REFERENCES, _BEGINNINGS}


def batch(draft: Draft) -> list[tuple[RecordRef, Half, Record | None, int]]:
    """The changes in order, each as (record, half, new version, stage); None: the record is deleted."""
    before = draft.before()
    found = []
    for number, (ref, was) in enumerate(before.items()):
        now = draft.get(*ref)
        found += [(_rank(ref, half, was, now), number, ref, half, now) for half in halves_of(was, now)]
    found.sort(key=lambda one: one[:2])
    return [(ref, half, now, _stage(rank, ref, now)) for rank, _, ref, half, now in found]


def _stage(rank: int, ref: RecordRef, now: Record | None) -> int:
    """Policies, codes, clients and deletions have no stage, because others depend on their order."""
    is_unordered = rank in _UNORDERED and now is not None and ref[0] in {Exporter, ExporterDevices, Lease}
    return rank if is_unordered else 0


def halves_of(before: Record | None, after: Record | None) -> Iterator[Half]:
    """The halves of a record that differ. Creation and deletion count as changes of the spec."""
    if before is None and after is None:
        return
    if before is None or after is None or differs(before, after, Half.SPEC):
        yield Half.SPEC
    if after is not None and differs(before or blank(after), after, Half.STATUS):
        yield Half.STATUS


def _rank(ref: RecordRef, half: Half, before: Record | None, after: Record | None) -> int:
    kind, _ = ref
    if after is None:
        return _DELETIONS.get(kind, _OBJECTS)
    if kind is PairingCode:
        return _CODES
    if isinstance(after, Policy):
        if not isinstance(before, Policy) or _covers(after, before):
            return _ALLOWS_MORE
        return _ALLOWS_LESS if _covers(before, after) else _ALLOWS_OTHER
    if half is Half.SPEC:
        return _LEASES if kind is Lease else _EXPORTERS
    if isinstance(after, Lease):
        return _ENDS if after.ended is not None else _BEGINNINGS
    return _REFERENCES if kind in {Exporter, ExporterDevices} else _EXPORTERS


def _covers(policy: Policy, other: Policy) -> bool:
    """Whether it allows all that the other one allows."""
    if policy.exporters not in ("", other.exporters):
        return False
    return all(any(_covers_rule(rule, one) for rule in policy.rules) for one in other.rules)


def _covers_rule(rule: Rule, other: Rule) -> bool:
    limit, others = (
        math.inf if one.maximum_duration is None else one.maximum_duration for one in (rule, other)
    )
    return rule.priority == other.priority and limit >= others and {*rule.clients} >= {*other.clients}
