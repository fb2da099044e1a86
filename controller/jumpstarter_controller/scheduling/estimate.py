"""Estimates when waiting leases get an exporter, if no lease ends early and no new one is created. No I/O."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from jumpstarter_controller.lab import Key, Lease
from jumpstarter_controller.scheduling.candidates import Candidates
from jumpstarter_controller.scheduling.lease_queue import ExporterPool, LeaseQueue, Reservations, end_of

__all__ = ["forecast"]

MAX_RESERVATION_ROUNDS = 16
"""Limits the look-ahead where exporters are reserved: the estimate for leases far behind is unknown."""
_FREE, _LEAVE, _JOIN = range(3)


def forecast(
    waiting: Sequence[tuple[Lease, Candidates]], reservations: Reservations, pool: ExporterPool, now: float
) -> dict[Key, float]:
    """The estimated begin of each lease, by its key. Leases without an estimate are missing.

    It simulates the scheduler's decisions at the times when they will be due. For exporters that are neither leased
    nor free it is unknown when they will be ready, so they are left out.
    """
    lease_queue = LeaseQueue(waiting)
    pool = pool.copy()
    events: list[tuple[float, int, Key]] = [(at, _FREE, key) for key, at in pool.free_at.items() if at > now]
    events += [(lease.expiry, _LEAVE, lease.key) for lease, _ in waiting if lease.expiry is not None]
    joining = {lease.key: (lease, found) for lease, found in reservations.later}
    events += [(lease.begin_time, _JOIN, lease.key) for lease, _ in reservations.later if lease.begin_time]
    heapq.heapify(events)
    begins: dict[Key, float] = {}
    while (lease_queue or joining) and reservations.times <= MAX_RESERVATION_ROUNDS:
        for allocation in lease_queue.allocate(pool, reservations, now):
            begins[allocation.lease.key] = now
            heapq.heappush(events, (end_of(allocation.lease, now), _FREE, allocation.exporter))
        if not events:
            break
        now = events[0][0]
        while events and events[0][0] <= now:
            _, kind, key = heapq.heappop(events)
            if kind == _FREE:
                pool.free.add(key)
            elif kind == _LEAVE:
                lease_queue.leave(key)
            else:
                lease, found = joining.pop(key)
                lease_queue.join(lease, found)
                heapq.heappush(events, (end_of(lease, now), _LEAVE, key))
    return begins
