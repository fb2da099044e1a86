"""The changes of a draft in the order in which they are written, which may stop behind any of them. No I/O.

Each beginning of it is a lab that goes on: what a request decides comes before what follows from it. A board is taken
by its exporter's reference, then its lease begins; a lease ends, then the reference goes
(`scheduling/references.py`). A pairing code is used before it gives anything. What is granted comes before what is
taken away.
"""

from __future__ import annotations

from collections.abc import Iterator

from jumpstarter_controller.lab import Exporter, ExporterDevices, Lab, Lease, PairingCode, Policy, Record
from jumpstarter_controller.lab.tables import Place
from jumpstarter_controller.store.contract import Half, blank, differs

__all__ = ["batch", "halves_of"]


def batch(draft: Lab) -> list[tuple[Place, Half, Record | None]]:
    """Which half of which record becomes what; None: the record goes."""
    before = draft.before()
    found = []
    for number, (place, was) in enumerate(before.items()):
        now = draft.get(*place)
        found += [(_rank(place, half, was, now), number, place, half, now) for half in halves_of(was, now)]
    found.sort(key=lambda one: one[:2])
    return [(place, half, now) for _, _, place, half, now in found]


def halves_of(before: Record | None, after: Record | None) -> Iterator[Half]:
    """What of a record is another one; its making and its end count as its spec."""
    if before is None and after is None:
        return
    if before is None or after is None or differs(before, after, Half.SPEC):
        yield Half.SPEC
    if after is not None and differs(before or blank(after), after, Half.STATUS):
        yield Half.STATUS


def _rank(place: Place, half: Half, before: Record | None, after: Record | None) -> int:
    kind, _ = place
    if kind is PairingCode:
        return 0
    if after is None:  # what belongs to it goes before it does, and leases end behind it
        return {ExporterDevices: 0, Exporter: 0, Lease: 8, Policy: 10}.get(kind, 1)
    if kind is Policy:
        return 2 if before is None else 3
    if half is Half.SPEC:
        return 4 if kind is Lease else 1
    if isinstance(after, Lease):
        return 5 if after.ended is not None else 7
    return 6 if kind in {Exporter, ExporterDevices} else 1
