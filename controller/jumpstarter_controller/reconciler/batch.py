"""The changes of a draft in the order in which they are written, which may stop behind any of them. No I/O.

Each beginning of it is a lab that goes on: what a request decides comes before what follows from it. A board is taken
by its exporter's reference, then its lease begins; a lease ends, then the reference goes
(`scheduling/references.py`). A pairing code is used before it gives anything. What is granted comes before what is
taken away. What is of one stage has no order: different leases, or different exporters, of which the same half changes.
"""

from __future__ import annotations

from collections.abc import Iterator

from jumpstarter_controller.lab import Draft, Exporter, ExporterDevices, Lease, PairingCode, Policy, Record
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.store.contract import Half, blank, differs

__all__ = ["batch", "halves_of"]

_EXPORTERS, _LEASES, _ENDS, _REFERENCES, _BEGINNINGS = 1, 4, 5, 6, 7
"""Ranks of halves of exporters and leases."""
_UNORDERED = {_EXPORTERS, _LEASES, _ENDS, _REFERENCES, _BEGINNINGS}


def batch(draft: Draft) -> list[tuple[RecordRef, Half, Record | None, int]]:
    """Which half of which record becomes what, and its stage (`Change.stage`); None: the record goes."""
    before = draft.before()
    found = []
    for number, (ref, was) in enumerate(before.items()):
        now = draft.get(*ref)
        found += [(_rank(ref, half, was, now), number, ref, half, now) for half in halves_of(was, now)]
    found.sort(key=lambda one: one[:2])
    return [(ref, half, now, _stage(rank, ref, now)) for rank, _, ref, half, now in found]


def _stage(rank: int, ref: RecordRef, now: Record | None) -> int:
    """Policies, codes and clients, and what goes, come one by one: what they mean to others is in their order."""
    is_unordered = rank in _UNORDERED and now is not None and ref[0] in {Exporter, ExporterDevices, Lease}
    return rank if is_unordered else 0


def halves_of(before: Record | None, after: Record | None) -> Iterator[Half]:
    """What of a record is another one; its making and its end count as its spec."""
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
    if after is None:  # what belongs to it goes before it does, and leases end behind it
        return {ExporterDevices: 0, Exporter: 0, Lease: 8, Policy: 10}.get(kind, 1)
    if kind is Policy:
        return 2 if before is None else 3
    if half is Half.SPEC:
        return _LEASES if kind is Lease else _EXPORTERS
    if isinstance(after, Lease):
        return _ENDS if after.ended is not None else _BEGINNINGS
    return _REFERENCES if kind in {Exporter, ExporterDevices} else _EXPORTERS
