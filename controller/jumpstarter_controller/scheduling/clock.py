"""The controller's time: seconds since the epoch that nobody can set in the middle of a lease.

Durations are measured by a clock that runs evenly, also while the machine is suspended; times of day are the wall
clock's. Between two steps of the wall clock both are one number. A step is not followed by itself: whoever keeps times
that stand for durations moves these first (`scheduling.follow_clock`), then calls `follow`. After a restart only the
wall clock is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["STEP_SECONDS", "Clock", "uptime"]

STEP_SECONDS = 1.0
"""A wall clock that is further away from where it should be was set."""


def uptime() -> float:
    """Seconds since some moment, suspended ones included; Linux alone knows these."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Clock:
    """Call it for the time. `wall` can be set, `steady` cannot; without it `wall` is one that nobody sets."""

    def __init__(self, wall: Callable[[], float], steady: Callable[[], float] | None = None) -> None:
        self._wall = wall
        self._steady = steady or wall
        self._offset = wall() - self._steady()
        self.moved = 0.0
        """By how many seconds it was set, all steps that were followed together."""

    def __call__(self) -> float:
        """Seconds since the epoch, within `STEP_SECONDS` of the wall clock when its steps are followed."""
        return self._steady() + self._offset

    def step(self) -> float:
        """By how many seconds the wall clock was set since the last `follow`; 0 if it was not."""
        step = self._wall() - self()
        return step if abs(step) >= STEP_SECONDS else 0.0

    def follow(self, step: float) -> None:
        """Take a step over."""
        self._offset += step
        self.moved += step
