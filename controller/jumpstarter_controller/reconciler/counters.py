"""Counters since the start of the controller. `metrics` exports them."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jumpstarter_controller.lab import Lease, Record

if TYPE_CHECKING:
    from jumpstarter_proto.rpc import ServerCall

__all__ = ["Counters", "Histogram"]

WAIT_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
WRITE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)


class Histogram:
    """A cumulative histogram with fixed bounds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.total = 0.0
        self._counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect.bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulated(self) -> list[tuple[float, int]]:
        """Each upper bound, the last one infinite, with the number of values up to it."""
        found, count = [], 0
        for bound, one in zip((*self.bounds, float("inf")), self._counts, strict=True):
            count += one
            found.append((bound, count))
        return found


class Counters:
    """The counters of one controller."""

    def __init__(self) -> None:
        self.acquisitions = {"success": 0, "failure": 0}
        """Leases that got an exporter, and leases that ended without one."""
        self.waits = Histogram(WAIT_BUCKETS)
        """Seconds from when a lease could begin until it had an exporter."""
        self.writes = Histogram(WRITE_BUCKETS)
        """Seconds of each write to the disk."""
        self.failed_writes = 0
        self.requests: Counter[str] = Counter()
        """Calls by method."""
        self.watches = 0
        """Open calls of Watch."""
        self.dials: Counter[str] = Counter()
        """Calls of Dial by status."""

    async def count(self, call: ServerCall[Any, Any]) -> None:
        """Count a call. To be used as an interceptor."""
        self.requests[call.method.path.lstrip("/")] += 1

    def note(self, before: Record | None, after: Record | None) -> None:
        """Count a change of a record."""
        was = before if isinstance(before, Lease) else None
        if not isinstance(after, Lease):
            if was is not None and was.ended is None and not was.exporter:  # deleted by somebody else
                self.acquisitions["failure"] += 1
            return
        if after.accepted and not (was and was.accepted):
            self.acquisitions["success"] += 1
            start = max(after.created, after.begin_time or 0.0)
            self.waits.observe(max(0.0, (after.begun or start) - start))
        elif after.ended is not None and not after.exporter and (was is None or was.ended is None):
            self.acquisitions["failure"] += 1
