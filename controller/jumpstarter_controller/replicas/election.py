"""Which of several controllers of one lab leads: a state machine without I/O over one record that all of them see.

The record says who leads and for how long from the moment in which it was written; whoever leads writes it again in
time. Nobody compares its clock with another's, only how long something took by its own:

- A leader believes that it leads for `CLAIM_SECONDS` from the moment **before** it asked for its record to be written.
- All others take its record over when they have seen it unchanged for `LEASE_SECONDS` from the moment **after** they
  first saw it.

So two never lead at the same time as long as their clocks run at rates that differ by less than the two spans do: the
slowest may run at 1 - `MAX_DRIFT`, the fastest at 1 + `MAX_DRIFT`. A write names the version that it replaces, so that
of two who take the record over one succeeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["CLAIM_SECONDS", "LEASE_SECONDS", "MAX_DRIFT", "RENEW_SECONDS", "Election", "LeaderRecord"]

LEASE_SECONDS = 6.0
"""A record that nobody writes again is good for so long."""
CLAIM_SECONDS = 4.5
"""And its leader believes in it for so long."""
MAX_DRIFT = (LEASE_SECONDS - CLAIM_SECONDS) / (LEASE_SECONDS + CLAIM_SECONDS)
RENEW_SECONDS = 2.0
"""Between two writes of a leader: each of them costs the API server something."""
RETRY_SECONDS = 0.5
"""After one that failed."""
LOOK_SECONDS = 1.0
"""Between two looks of those who do not lead."""


class LeaderRecord(NamedTuple):
    """What the record says."""

    holder: str
    """Who leads; empty when the last one has let go."""
    seconds: float = LEASE_SECONDS
    """For how long."""
    transitions: int = 0
    """How often another has begun to lead."""


class Election:
    """One replica's part in it. `clock` is one that nobody sets.

    Whoever drives it reads the record and calls `observe`, then writes what `proposal` says, if anything: `begin`
    before, then `granted` or `refused`. After `pause()` seconds it does that again.
    """

    def __init__(self, identity: str, clock: Callable[[], float]) -> None:
        """No other process that lives may have this `identity`; one that is dead may have had it."""
        self.identity = identity
        self._clock = clock
        self._seen: LeaderRecord | None = None
        self._version = ""
        self._seen_at = -math.inf
        """When the present version was seen first."""
        self._asked_at = -math.inf
        self._claimed_until = -math.inf
        self._failed = False
        self._has_resigned = False

    @property
    def leads(self) -> bool:
        """Whether this replica leads now, and nobody else does."""
        return self.left > 0

    @property
    def left(self) -> float:
        """For how many seconds more it leads, if nothing is written until then; 0 or less: it does not."""
        return self._claimed_until - self._clock()

    @property
    def holder(self) -> str:
        """Who led when the record was seen last; empty for nobody."""
        return "" if self._seen is None else self._seen.holder

    @property
    def version(self) -> str:
        """Of the record as it was seen last, which a write has to name; empty when there was none."""
        return self._version

    @property
    def is_to_look(self) -> bool:
        """Whether the record may be another than was seen last; otherwise it can be written as it is."""
        return self._failed or self.holder != self.identity or not self._version

    def observe(self, claim: LeaderRecord | None, version: str) -> None:
        """The record is so, or there is none."""
        if claim is None:
            # Somebody has deleted it; whom it named before may still believe in it.
            self._version = ""
        elif version != self._version:
            self._seen, self._version, self._seen_at = claim, version, self._clock()
        if self.holder != self.identity:
            self._claimed_until = -math.inf
        self._failed = False

    def proposal(self) -> LeaderRecord | None:
        """What is to be written in the place of what was seen; None: nothing."""
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
        """It will be asked for in a moment."""
        self._asked_at = self._clock()

    def granted(self, claim: LeaderRecord, version: str) -> None:
        """What was asked for is written."""
        self._seen, self._version, self._seen_at = claim, version, self._clock()
        self._failed = False
        self._claimed_until = self._asked_at + CLAIM_SECONDS if claim.holder == self.identity else -math.inf

    def refused(self) -> None:
        """It was not written, or that is not known."""
        self._failed = True

    def resign(self) -> LeaderRecord | None:
        """Lead no more, from now on; what is to be written so that another can at once, if anything."""
        self._has_resigned = True
        self._claimed_until = -math.inf
        if self.holder != self.identity:
            return None
        assert self._seen is not None
        return LeaderRecord("", transitions=self._seen.transitions)

    def pause(self) -> float:
        """In how many seconds the record is to be looked at again."""
        if self._failed:
            return RETRY_SECONDS
        if self.holder == self.identity:
            return max(0.0, self._asked_at + RENEW_SECONDS - self._clock())
        if self._seen is None:
            return LOOK_SECONDS
        left = self._seen_at + max(self._seen.seconds, LEASE_SECONDS) - self._clock()
        return min(LOOK_SECONDS, max(0.0, left))
