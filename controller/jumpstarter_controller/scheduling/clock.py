"""The controller's clock: seconds since the epoch, without jumps while a lease is active.

Durations are measured by a monotonic clock that includes suspend; times of day come from the wall clock. This clock
combines both. When the wall clock is set, it does not follow by itself: the caller first moves the stored times of
running durations (`scheduling.follow_clock`), then calls `follow`. A restart starts again with the wall clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["STEP_SECONDS", "Clock", "uptime"]

STEP_SECONDS = 1.0
"""A larger difference between the two clocks means that the wall clock was set."""


def uptime() -> float:
    """Seconds of a monotonic clock. On Linux it includes the time in suspend."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Clock:
    """Call it for the time. `wall` may jump, `steady` is monotonic; without `steady`, `wall` never jumps."""

    def __init__(self, wall: Callable[[], float], steady: Callable[[], float] | None = None) -> None:
        self._wall = wall
        self._steady = steady or wall
        self._offset = wall() - self._steady()
        self.moved = 0.0
        """The sum of all steps that were followed, in seconds."""

    def __call__(self) -> float:
        """Seconds since the epoch, within `STEP_SECONDS` of the wall clock when its steps are followed."""
        return self._steady() + self._offset

    def step(self) -> float:
        """By how many seconds the wall clock was set since the last `follow`; 0: it was not."""
        step = self._wall() - self()
        return step if abs(step) >= STEP_SECONDS else 0.0

    def follow(self, step: float) -> None:
        """Follow a step of the wall clock."""
        self._offset += step
        self.moved += step
