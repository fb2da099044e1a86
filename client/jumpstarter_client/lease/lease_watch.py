"""Which messages the user of a lease gets, and when to poll it. No I/O, no clock of its own.

The user is warned five minutes before the lease ends (again after an extension), and told about an extension, an
unreachable controller and its return, and the end. An unreachable controller does not end a lease before it expires.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jumpstarter_client.controller.controller_client import short_name
from jumpstarter_client.controller.lease_view import lease_status, remaining
from jumpstarter_client.times import format_duration

if TYPE_CHECKING:
    from jumpstarter_proto.client.v1 import client_pb2 as pb

__all__ = ["LeaseObservation", "LeaseWatch", "WatchState"]

POLL_SECONDS = 30.0
"""The interval between two polls."""
WARNING_SECONDS = 300.0
LATE_POLL_SECONDS = 1.0
"""The interval after the expiry time, until the controller confirms the end."""
WATCH_SILENCE_SECONDS = 5.0
"""A watched lease is polled all the same if the watch has not reported the end so long after the expiry time."""
GRACE_SECONDS = 60.0
"""With an unreachable controller, a lease counts as ended so long after its expiry time."""
TOLERANCE_SECONDS = 2.0
"""A smaller change of the expiry time is a rounding error, not an extension."""


@dataclass(frozen=True)
class LeaseObservation:
    """The state of a lease at one moment."""

    remaining: float | None
    """Seconds until it expires; None while it has no expiry time."""
    owner: str
    ended: str = ""
    """Why it has ended; empty while it is active."""

    @classmethod
    def of(cls, lease: pb.Lease, now: float) -> LeaseObservation:
        """Read a record. `now`, in seconds since the epoch, is for controllers that do not send the elapsed time."""
        status = lease_status(lease, now)
        has_ended = status.state not in ("ready", "waiting", "scheduled")
        return cls(remaining(lease, now), short_name(lease.client), status.sentence if has_ended else "")


class WatchState(enum.Enum):
    """The state of a watched lease."""

    RUNNING = "running"
    UNREACHABLE = "unreachable"
    """The controller is unreachable; the lease is assumed to be active."""
    ENDED = "ended"


class LeaseWatch:
    """Watches one lease. `now` is monotonic, in seconds. Each method returns the messages for the user, mostly none."""

    def __init__(self, name: str, owner: str) -> None:
        self.state = WatchState.RUNNING
        self.is_watched = False
        """The controller pushes each change, so regular polls are not needed."""
        self.end_reason = ""
        """Why the lease has ended."""
        self._name = name
        self._owner = owner
        self._ends: float | None = None
        self._warned = False
        self._polled_at: float | None = None

    @property
    def ends(self) -> float | None:
        """When the lease ends, in the time of `now`; None while that is not known."""
        return self._ends

    @property
    def next_wake(self) -> float:
        """The time for the next call of `advance`."""
        if self._polled_at is None:
            return 0.0
        times = [self._next_poll(self._polled_at)]
        if self._ends is not None and not self._warned and self._ends - WARNING_SECONDS > self._polled_at:
            times.append(self._ends - WARNING_SECONDS)
        return min(times)

    def _next_poll(self, polled_at: float) -> float:
        ends = math.inf if self._ends is None else self._ends
        if self.is_watched:
            return max(ends + WATCH_SILENCE_SECONDS, polled_at + POLL_SECONDS)
        return min(polled_at + POLL_SECONDS, max(ends, polled_at + LATE_POLL_SECONDS))

    def advance(self, now: float) -> tuple[bool, list[str]]:
        """Return whether to poll now, and the messages that are due."""
        if self.state is WatchState.ENDED:
            return False, []
        messages = self._warn(now)
        return self._polled_at is None or now >= self._next_poll(self._polled_at), messages

    def observe(self, observation: LeaseObservation, now: float) -> list[str]:
        """Handle the state that the controller reported."""
        if self.state is WatchState.ENDED:
            return []
        messages = ["the controller is reachable again"] if self.state is WatchState.UNREACHABLE else []
        self.state = WatchState.RUNNING
        first, self._polled_at = self._polled_at is None, now
        if observation.ended:
            return [*messages, *self._end(observation.ended)]
        if observation.owner and observation.owner != self._owner:
            return [*messages, *self._end(f"it was transferred to {observation.owner}")]
        ends = None if observation.remaining is None else now + observation.remaining
        if observation.remaining and self._moved(ends):
            if not first and ends is not None and self._ends is not None:
                word = "extended" if ends > self._ends else "shortened"
                messages.append(
                    f"lease {self._name} was {word}; it ends in {format_duration(observation.remaining)}"
                )
            self._ends, self._warned = ends, False
        return [*messages, *self._warn(now)]

    def not_found(self, now: float) -> list[str]:
        """Handle that the controller no longer has this lease."""
        self._polled_at = now
        return [] if self.state is WatchState.ENDED else self._end("the controller no longer has it")

    def unreachable(self, reason: str, now: float) -> list[str]:
        """Handle that the controller did not answer."""
        if self.state is WatchState.ENDED:
            return []
        self._polled_at = now
        messages = []
        if self.state is not WatchState.UNREACHABLE:
            self.state = WatchState.UNREACHABLE
            messages.append(f"the controller is unreachable ({reason}); lease {self._name} continues")
        if self._ends is not None and now >= self._ends + GRACE_SECONDS:
            return [*messages, *self._end("it has expired")]
        return messages

    def _moved(self, ends: float | None) -> bool:
        if ends is None or self._ends is None:
            return ends is not self._ends
        return abs(ends - self._ends) > TOLERANCE_SECONDS

    def _warn(self, now: float) -> list[str]:
        if self._warned or self._ends is None or now < self._ends - WARNING_SECONDS or now >= self._ends:
            return []
        self._warned = True
        left = format_duration(self._ends - now)
        return [f"the lease ends in {left}; to keep the board: jumpstarter lease extend {self._name} 30m"]

    def _end(self, why: str) -> list[str]:
        self.state = WatchState.ENDED
        self.end_reason = f"the lease has ended: {why}"
        return [self.end_reason]
