"""Leases above their client's limit, created at the same moment by several controllers or other writers. No I/O.

Each controller rejects a request above the limit that it sees. Leases that several writers created at once are noticed
afterwards: the youngest ones end. All controllers choose the same ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from jumpstarter_controller.lab import Lease

__all__ = ["IN_FLIGHT_SECONDS", "excess_leases"]

IN_FLIGHT_SECONDS = 60.0
"""A lease that began longer ago was not created at the same moment (or under another limit), and continues."""


def excess_leases(leases: Sequence[Lease], most: int, now: float) -> list[Lease]:
    """Of these open leases, the ones that have to end so that each client has at most `most`."""
    if len(leases) <= most:
        return []
    counts = Counter((one.namespace, one.client) for one in leases)  # runs in each turn: keep it fast
    found: list[Lease] = []
    for (namespace, client), count in counts.items():
        if count > most:
            owned = [one for one in leases if one.client == client and one.namespace == namespace]
            owned.sort(key=lambda one: (one.sequence, one.created, one.key))
            found += [one for one in owned[most:] if one.begun is None or now - one.begun < IN_FLIGHT_SECONDS]
    return found
