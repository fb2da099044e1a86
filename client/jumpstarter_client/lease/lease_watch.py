"""What a lease's user has to hear while it runs, and when to look at it again. No I/O, no clock of its own.

A user hears of the end five minutes before it, once for each end that there is; of an extension, of a controller
that is away and of its return; and once that it is over. A controller that is away ends nothing by itself.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jumpstarter_client.controller.controller_client import bare
from jumpstarter_client.controller.lease_view import remaining, standing
from jumpstarter_client.times import spell

if TYPE_CHECKING:
    from jumpstarter_proto.client.v1 import client_pb2 as pb

__all__ = ["Look", "Phase", "Term"]

LOOK_SECONDS = 30.0
"""Between two looks, at most so often."""
WARNING_SECONDS = 300.0
LATE_SECONDS = 1.0
"""Between two looks when the time is over, and the controller has not said so yet."""
QUIET_SECONDS = 5.0
"""A controller that tells by itself is asked nevertheless when it has not told of the end for so long."""
GRACE_SECONDS = 60.0
"""After its time, a lease that nobody can ask about is over."""
TOLERANCE = 2.0
"""An end that moves less was not moved by anybody."""


@dataclass(frozen=True)
class Look:
    """A lease as it was seen."""

    remaining: float | None
    """Seconds; None as long as it has no end."""
    owner: str
    ended: str = ""
    """Why it has ended; empty as long as it runs."""

    @classmethod
    def of(cls, lease: pb.Lease, now: float) -> Look:
        """`now` in seconds since the epoch, for controllers that do not tell how long a lease has run."""
        stands = standing(lease, now)
        has_ended = stands.state not in ("ready", "waiting", "scheduled")
        return cls(remaining(lease, now), bare(lease.client), stands.sentence if has_ended else "")


class Phase(enum.Enum):
    """Where it stands."""

    RUNS = "runs"
    UNKNOWN = "unknown"
    """The controller is away; it runs as far as anybody knows."""
    OVER = "over"


class Term:
    """One lease's time. `now` is monotonic, in seconds. Each method returns the sentences to say, mostly none."""

    def __init__(self, name: str, owner: str) -> None:
        self.phase = Phase.RUNS
        self.is_told = False
        """The controller tells of each change: nobody has to look now and then."""
        self.verdict = ""
        """Why it is over."""
        self._name = name
        self._owner = owner
        self._ends: float | None = None
        self._warned = False
        self._looked: float | None = None

    @property
    def wake(self) -> float:
        """When to call `due` next."""
        if self._looked is None:
            return 0.0
        times = [self._next_look(self._looked)]
        if self._ends is not None and not self._warned and self._ends - WARNING_SECONDS > self._looked:
            times.append(self._ends - WARNING_SECONDS)
        return min(times)

    def _next_look(self, looked: float) -> float:
        ends = math.inf if self._ends is None else self._ends
        if self.is_told:
            return max(ends + QUIET_SECONDS, looked + LOOK_SECONDS)
        return min(looked + LOOK_SECONDS, max(ends, looked + LATE_SECONDS))

    def due(self, now: float) -> tuple[bool, list[str]]:
        """Whether to look at it now, and what to say."""
        if self.phase is Phase.OVER:
            return False, []
        said = self._warn(now)
        return self._looked is None or now >= self._next_look(self._looked), said

    def seen(self, look: Look, now: float) -> list[str]:
        """The controller has told how it is."""
        if self.phase is Phase.OVER:
            return []
        said = ["the controller is back"] if self.phase is Phase.UNKNOWN else []
        self.phase = Phase.RUNS
        first, self._looked = self._looked is None, now
        if look.ended:
            return [*said, *self._end(look.ended)]
        if look.owner and look.owner != self._owner:
            return [*said, *self._end(f"it was given to {look.owner}")]
        ends = None if look.remaining is None else now + look.remaining
        if look.remaining and self._moved(ends):
            if not first and ends is not None and self._ends is not None:
                word = "extended" if ends > self._ends else "shortened"
                said.append(f"lease {self._name} was {word}; it ends in {spell(look.remaining)}")
            self._ends, self._warned = ends, False
        return [*said, *self._warn(now)]

    def missing(self, now: float) -> list[str]:
        """There is no such lease any more."""
        self._looked = now
        return [] if self.phase is Phase.OVER else self._end("the controller does not know it any more")

    def away(self, reason: str, now: float) -> list[str]:
        """The controller could not be asked."""
        if self.phase is Phase.OVER:
            return []
        self._looked = now
        said = []
        if self.phase is not Phase.UNKNOWN:
            self.phase = Phase.UNKNOWN
            said.append(f"the controller is away ({reason}); lease {self._name} goes on meanwhile")
        if self._ends is not None and now >= self._ends + GRACE_SECONDS:
            return [*said, *self._end("its time is over")]
        return said

    def _moved(self, ends: float | None) -> bool:
        if ends is None or self._ends is None:
            return ends is not self._ends
        return abs(ends - self._ends) > TOLERANCE

    def _warn(self, now: float) -> list[str]:
        if self._warned or self._ends is None or now < self._ends - WARNING_SECONDS or now >= self._ends:
            return []
        self._warned = True
        left = spell(self._ends - now)
        return [f"the lease ends in {left}; to keep the board: jumpstarter lease extend {self._name} 30m"]

    def _end(self, why: str) -> list[str]:
        self.phase = Phase.OVER
        self.verdict = f"the lease has ended: {why}"
        return [self.verdict]
