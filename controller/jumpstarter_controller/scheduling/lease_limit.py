"""Leases that are more than their client may have, because others have made some at the same moment. No I/O.

A request for one too many is refused. What several controllers, or other writers, make at once is noticed when all of
it is known: the youngest end, and everybody who decides it says the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from jumpstarter_controller.lab import Lease

__all__ = ["IN_FLIGHT_SECONDS", "excess_leases"]

IN_FLIGHT_SECONDS = 60.0
"""What has begun so long ago was made before the others, or when the limit was another: it goes on."""


def excess_leases(leases: Sequence[Lease], most: int, now: float) -> list[Lease]:
    """Of leases that have not ended, those that are to end for a client to have no more than so many."""
    if len(leases) <= most:
        return []
    counts = Counter((one.namespace, one.client) for one in leases)  # done each time, so it has to be quick
    found: list[Lease] = []
    for (namespace, client), count in counts.items():
        if count > most:
            owned = [one for one in leases if one.client == client and one.namespace == namespace]
            owned.sort(key=lambda one: (one.sequence, one.created, one.key))
            found += [one for one in owned[most:] if one.begun is None or now - one.begun < IN_FLIGHT_SECONDS]
    return found
