"""Which controllers of a lab live, and where they are reached: a state machine without I/O.

Each writes a record of its own again and again. One that nobody has written for a while is dead, by the clock of who
looks; what its clock says does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

__all__ = ["ANNOUNCE_SECONDS", "LIFETIME_SECONDS", "Members", "ReplicaRecord"]

ANNOUNCE_SECONDS = 10.0
"""Between two writes of a replica's own record: each of them costs the API server something."""
LIFETIME_SECONDS = 25.0
"""A record that is not written again for so long is a dead replica's."""
KNOWN_SECONDS = 300.0
"""One that is dead may live for so long, for who has nobody else to ask."""
FORGET_SECONDS = 3600.0
"""And is taken away so much later."""


class ReplicaRecord(NamedTuple):
    """A replica's own record."""

    address: str
    """HOST:PORT for other replicas."""
    version: str
    """Another each time that it is written."""


class Members:
    """The others, as one replica sees them."""

    def __init__(self, identity: str, clock: Callable[[], float]) -> None:
        self.identity = identity
        self._clock = clock
        self._seen: dict[str, tuple[ReplicaRecord, float]] = {}
        self._looked: float | None = None
        """When they were seen last."""
        self.living: dict[str, str] = {}
        """Address by name, of all others that live."""
        self.known: dict[str, str] = {}
        """The same of those, too, of which that is not known: they may have been busy."""

    def observe(self, found: Mapping[str, ReplicaRecord]) -> bool:
        """All records are so. Whether other replicas live than before, or elsewhere."""
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
        """Whose record is nobody's any more."""
        now = self._clock()
        return [name for name, (_, since) in self._seen.items() if now >= since + FORGET_SECONDS]
