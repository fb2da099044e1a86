"""Leader election among the controllers of one lab: a state machine without I/O over one shared record.

The record names the leader, and how long it leads from the time of writing; the leader renews it in time. Clocks of
different machines are never compared, only durations on one's own clock:

- A leader leads for `CLAIM_SECONDS` from the moment **before** it sent the write of its record.
- Others take the record over when it was unchanged for `LEASE_SECONDS` from the moment **after** they first read it.

So two controllers never lead at the same time, as long as the rates of their clocks differ by less than the two
durations do: the slowest may run at 1 - `MAX_DRIFT`, the fastest at 1 + `MAX_DRIFT`. A write names the version that it
replaces, so that only one of two candidates succeeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["CLAIM_SECONDS", "LEASE_SECONDS", "MAX_DRIFT", "RENEW_SECONDS", "Election", "LeaderRecord"]

LEASE_SECONDS = 6.0
"""How long a record that is not renewed is respected by others."""
CLAIM_SECONDS = 4.5
"""How long a leader relies on its record."""
MAX_DRIFT = (LEASE_SECONDS - CLAIM_SECONDS) / (LEASE_SECONDS + CLAIM_SECONDS)
RENEW_SECONDS = 2.0
"""Between two renewals. Each one is load for the API server."""
RETRY_SECONDS = 0.5
"""After a failed write."""
LOOK_SECONDS = 1.0
"""Between two reads of a controller that does not lead."""


class LeaderRecord(NamedTuple):
    """The content of the record."""

    holder: str
    """The leader; empty: the last one has resigned."""
    seconds: float = LEASE_SECONDS
    """The duration of the lease."""
    transitions: int = 0
    """How often the leader has changed."""


class Election:
    """One replica's part in the election. `clock` is monotonic.

    The caller reads the record and calls `observe`, then writes the `proposal`, if there is one: `begin` before the
    write, `granted` or `refused` after it. It repeats this after `pause()` seconds.
    """

    def __init__(self, identity: str, clock: Callable[[], float]) -> None:
        """`identity` must be unique among running processes. A dead process may have had the same one."""
        self.identity = identity
        self._clock = clock
        self._seen: LeaderRecord | None = None
        self._version = ""
        self._seen_at = -math.inf
        """When the present version was first read."""
        self._asked_at = -math.inf
        self._claimed_until = -math.inf
        self._failed = False
        self._has_resigned = False

    @property
    def leads(self) -> bool:
        """Whether this replica is the only leader now."""
        return self.left > 0

    @property
    def left(self) -> float:
        """Seconds for which it still leads without a renewal; 0 or less: it does not lead."""
        return self._claimed_until - self._clock()

    @property
    def holder(self) -> str:
        """The leader in the last read record; empty: none."""
        return "" if self._seen is None else self._seen.holder

    @property
    def version(self) -> str:
        """Version of the last read record, which a write has to name; empty: there was none."""
        return self._version

    @property
    def is_to_look(self) -> bool:
        """Whether the record has to be read again before a write."""
        return self._failed or self.holder != self.identity or not self._version

    def observe(self, claim: LeaderRecord | None, version: str) -> None:
        """The record was read; None: there is none."""
        if claim is None:
            # Somebody has deleted it; whom it named before may still believe in it.
            self._version = ""
        elif version != self._version:
            self._seen, self._version, self._seen_at = claim, version, self._clock()
        if self.holder != self.identity:
            self._claimed_until = -math.inf
        self._failed = False

    def proposal(self) -> LeaderRecord | None:
        """The record to write now; None: nothing."""
        seen = self._seen
        if self._has_resigned:
            return None
        if seen is None:
            return LeaderRecord(self.identity)
        if seen.holder == self.identity:
            return LeaderRecord(self.identity, transitions=seen.transitions)
        if not seen.holder or self._clock() >= self._seen_at + max(seen.seconds, LEASE_SECONDS):
            return LeaderRecord(self.identity, transitions=seen.transitions + 1)
        return None

    def begin(self) -> None:
        """A write of the proposal is about to begin."""
        self._asked_at = self._clock()

    def granted(self, claim: LeaderRecord, version: str) -> None:
        """The proposal was written."""
        self._seen, self._version, self._seen_at = claim, version, self._clock()
        self._failed = False
        self._claimed_until = self._asked_at + CLAIM_SECONDS if claim.holder == self.identity else -math.inf

    def refused(self) -> None:
        """The proposal was not written, or that is unknown."""
        self._failed = True

    def resign(self) -> LeaderRecord | None:
        """Stop leading now. Returns the record to write so that another replica can lead at once; None: nothing."""
        self._has_resigned = True
        self._claimed_until = -math.inf
        if self.holder != self.identity:
            return None
        assert self._seen is not None
        return LeaderRecord("", transitions=self._seen.transitions)

    def pause(self) -> float:
        """Seconds until the next read or renewal."""
        if self._failed:
            return RETRY_SECONDS
        if self.holder == self.identity:
            return max(0.0, self._asked_at + RENEW_SECONDS - self._clock())
        if self._seen is None:
            return LOOK_SECONDS
        left = self._seen_at + max(self._seen.seconds, LEASE_SECONDS) - self._clock()
        return min(LOOK_SECONDS, max(0.0, left))
