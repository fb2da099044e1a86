"""The clock of recordings: the host's, but it does not go back.

Who may see a record depends on its time. A host without a battery for its clock may start hours before its last
record, and every clock can be set back: then users of a lease would see what was recorded before their lease, and
nothing of their own. So the times keep the order in which things happened.
"""

from __future__ import annotations

import threading
import time

__all__ = ["MAX_WAIT_NANOSECONDS", "RECORD_CLOCK", "RecordClock"]

MAX_WAIT_NANOSECONDS = 86_400_000_000_000
"""After the host's clock was set back, this one stands still until the other has caught up; for a day at most.

If it is further behind, it was wrong before, and records from then are later than now.
"""
_STEP_NANOSECONDS = 1000
"""More than the rounding error of seconds since the epoch as a float."""


class RecordClock:
    """Can be used by several threads."""

    def __init__(self) -> None:
        self._latest = 0
        self._lock = threading.Lock()

    def now(self) -> int:
        """The time of a new record, in nanoseconds since the epoch."""
        with self._lock:
            return self._advance(0)

    def begin(self) -> float:
        """Now, in seconds since the epoch: later than all records before, and not later than any record from now on."""
        with self._lock:
            began = self._advance(_STEP_NANOSECONDS)
            self._latest = began + _STEP_NANOSECONDS
        return began / 1e9

    def reached(self, then: int) -> None:
        """There is a record of `then` already, from a process before."""
        with self._lock:
            if self._latest < then <= time.time_ns() + MAX_WAIT_NANOSECONDS:
                self._latest = then

    def _advance(self, least: int) -> int:
        wall = time.time_ns()
        is_wrong = self._latest > wall + MAX_WAIT_NANOSECONDS
        self._latest = wall if is_wrong else max(wall, self._latest + least)
        return self._latest


RECORD_CLOCK = RecordClock()
"""Of this process: all its recordings, leases and visits."""
