"""Orders the changes of a draft for writing. The store may stop after any of them. No I/O.

Each prefix of a batch is a valid state, from which the reconciler continues: the deciding record of a request comes
before its consequences. When a lease begins, the exporter's reference comes first and the lease's status second; when
it ends, the other way round (`scheduling/references.py`). A pairing code is marked as used before its object is
created. Grants come before revocations. Changes of one stage have no order: they are the same half of different leases,
or of different exporters.
"""

from __future__ import annotations

from collections.abc import Iterator

from jumpstarter_controller.lab import Draft, Exporter, ExporterDevices, Lease, PairingCode, Policy, Record
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.store.contract import Half, blank, differs

__all__ = ["batch", "halves_of"]

_EXPORTERS, _LEASES, _ENDS, _REFERENCES, _BEGINNINGS = 1, 4, 5, 6, 7
"""Ranks of the halves of exporters and leases in a batch."""
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
    if kind is PairingCode:
        return 0
    if after is None:  # its dependents are deleted before it; leases are deleted last
        return {ExporterDevices: 0, Exporter: 0, Lease: 8, Policy: 10}.get(kind, 1)
    if kind is Policy:
        return 2 if before is None else 3
    if half is Half.SPEC:
        return _LEASES if kind is Lease else _EXPORTERS
    if isinstance(after, Lease):
        return _ENDS if after.ended is not None else _BEGINNINGS
    return _REFERENCES if kind in {Exporter, ExporterDevices} else _EXPORTERS
