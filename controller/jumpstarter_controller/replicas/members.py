"""Which controllers of a lab are alive, and their addresses: a state machine without I/O.

Each controller renews a record of its own. If a record is not renewed for a while, measured by the reader's clock, its
controller is dead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

__all__ = ["ANNOUNCE_SECONDS", "LIFETIME_SECONDS", "Members", "ReplicaRecord"]

ANNOUNCE_SECONDS = 10.0
"""Between two renewals of a replica's record. Each one is load for the API server."""
LIFETIME_SECONDS = 25.0
"""A replica whose record was not renewed for this long is dead."""
KNOWN_SECONDS = 300.0
"""For this long a dead replica is still asked, in case it was only slow."""
FORGET_SECONDS = 3600.0
"""After this time the record of a dead replica is deleted."""


class ReplicaRecord(NamedTuple):
    """A replica's own record."""

    address: str
    """HOST:PORT for other replicas."""
    version: str
    """Changes with each renewal."""


class Members:
    """The other replicas, as seen by one replica."""

    def __init__(self, identity: str, clock: Callable[[], float]) -> None:
        self.identity = identity
        self._clock = clock
        self._seen: dict[str, tuple[ReplicaRecord, float]] = {}
        self._looked: float | None = None
        """When the records were last read."""
        self.living: dict[str, str] = {}
        """Addresses of the other replicas that are alive, by name."""
        self.known: dict[str, str] = {}
        """The same, including replicas that may only be slow."""

    def observe(self, found: Mapping[str, ReplicaRecord]) -> bool:
        """Take in all records. Returns whether `living` has changed."""
        now = self._clock()
        # A time in which this one could not look, as without an API server, proves nobody dead.
        unseen = 0.0 if self._looked is None else max(0.0, now - self._looked - ANNOUNCE_SECONDS)
        self._looked = now
        seen: dict[str, tuple[ReplicaRecord, float]] = {}
        for name, one in found.items():
            before = self._seen.get(name)
            is_same = before is not None and before[0] == one
            seen[name] = (one, before[1] + unseen) if before is not None and is_same else (one, now)
        self._seen = seen
        living = {
            name: one.address
            for name, (one, since) in seen.items()
            if name != self.identity and now < since + LIFETIME_SECONDS
        }
        self.known = {
            name: one.address
            for name, (one, since) in seen.items()
            if name != self.identity and now < since + KNOWN_SECONDS
        }
        changed, self.living = living != self.living, living
        return changed

    def forgettable(self) -> list[str]:
        """Replicas whose records can be deleted."""
        now = self._clock()
        return [name for name, (_, since) in self._seen.items() if now >= since + FORGET_SECONDS]
