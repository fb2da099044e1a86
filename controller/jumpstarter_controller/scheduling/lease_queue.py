"""The queue of waiting leases, and the reservations of leases that begin later. No I/O.

An exporter is allocated to the lease with the highest priority *for that exporter*, and among equals to the oldest. A
lease overtakes an earlier one only if the earlier one cannot have that exporter: it is not one of its candidates, or it
is reserved from a time before that lease would end.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

from msgspec.structs import replace

from jumpstarter_controller.lab import Key, Lease
from jumpstarter_controller.scheduling.candidates import Candidates

__all__ = ["Allocation", "ExporterPool", "LeaseQueue", "Reservations", "end_of"]

Rank: TypeAlias = "tuple[int, int, float, Key]"
"""Sort key of a waiting lease; the smallest is served first."""
Preference: TypeAlias = Callable[[Key], Any]
"""Sort key of an exporter; the smallest is preferred."""


@dataclass(frozen=True)
class ExporterPool:
    """The exporters that are online. `LeaseQueue.allocate` updates it."""

    free: set[Key]
    """Exporters that can be allocated now."""
    free_at: dict[Key, float]
    """For each online exporter, when its current lease ends."""
    prefer: Preference

    def copy(self) -> ExporterPool:
        """A copy to simulate allocations with."""
        return ExporterPool(set(self.free), dict(self.free_at), self.prefer)


MAX_RESERVATIONS = 32
"""Number of future leases, in queue order, for which an exporter is reserved. Each search takes time."""
MAX_SORTED_CANDIDATES = 8
"""Up to this number of candidates they are sorted for each lease; above it, all free exporters are sorted once."""


class Allocation(NamedTuple):
    """An exporter that was allocated to a lease."""

    lease: Lease
    exporter: Key
    priority: int


def end_of(lease: Lease, now: float) -> float:
    """When a lease that begins now expires."""
    end = replace(lease, begun=now).expiry
    assert end is not None
    return end


def _rank(lease: Lease, priority: int) -> Rank:
    return -priority, lease.sequence, lease.created, lease.key


@dataclass(frozen=True)
class _Reservation:
    begin: float
    end: float
    rank: Rank


class Reservations:
    """Exporters that are reserved for leases that begin later, against leases behind these in the queue.

    In queue order each future lease reserves one exporter that is free for its whole duration as far as is known; of
    several, the one with the least demand. A lease without such an exporter has no reservation and joins the queue at
    its begin time.
    """

    def __init__(self, later: Sequence[tuple[Lease, Candidates]]) -> None:
        self.later = sorted(later, key=lambda one: _rank(one[0], one[1].priority))
        self.times = 0
        """How often `make` has computed reservations."""
        self._made: dict[Key, list[_Reservation]] = {}

    def make(self, free_at: dict[Key, float], now: float, demand: Callable[[Key], int]) -> None:
        """Compute all reservations again.

        Args:
            free_at: When each exporter becomes free. Exporters that are not in it are not reserved.
            now: The time, in seconds since the epoch.
            demand: How many leases wait for an exporter.
        """
        self._made = {}
        if not self.later:
            return
        self.times += 1
        # Leases whose begin time has passed are in the queue.
        still = ((one.begin_time, one, found) for one, found in self.later if (one.begin_time or now) > now)
        later = list(islice(still, MAX_RESERVATIONS))
        others = Counter(key for _, _, found in later for key in found.exporters)
        for begin, lease, found in later:
            assert begin is not None
            end = end_of(lease, begin)
            for priority, exporters in found.levels:
                possible = [
                    key
                    for key in exporters
                    if free_at.get(key, end) <= begin
                    and not any(one.begin < end and begin < one.end for one in self._made.get(key, ()))
                ]
                if possible:
                    key = min(possible, key=lambda key: (others[key] + demand(key), key))
                    self._made.setdefault(key, []).append(_Reservation(begin, end, _rank(lease, priority)))
                    break

    def conflicts(self, exporter: Key, end: float) -> bool:
        """Whether a lease that keeps the exporter until `end` overlaps a reservation."""
        return any(one.begin < end for one in self._made.get(exporter, ()))

    def blocks(self, exporter: Key, end: float, rank: Rank) -> bool:
        """Whether an earlier lease's reservation prevents a lease of this rank from having the exporter until `end`."""
        return any(one.begin < end and one.rank < rank for one in self._made.get(exporter, ()))


class _Level:
    """All leases with the same candidates at the same priority, in queue order."""

    def __init__(self, priority: int, exporters: frozenset[Key]) -> None:
        self.priority = priority
        self.exporters = exporters
        self.waiting: deque[tuple[Rank, Lease]] = deque()
        """May contain leases that have left the queue."""
        self.count = 0
        """Number of leases that are still in the queue."""


class LeaseQueue:
    """The waiting leases. Leases leave it when they are allocated an exporter."""

    def __init__(self, waiting: Iterable[tuple[Lease, Candidates]] = ()) -> None:
        self._levels: dict[tuple[int, frozenset[Key]], _Level] = {}
        self._at: defaultdict[Key, list[_Level]] = defaultdict(list)
        waiting = list(waiting)
        self._here: dict[Key, Candidates] = {lease.key: found for lease, found in waiting}
        entries = [
            (_rank(lease, priority), lease, priority, exporters)
            for lease, found in waiting
            for priority, exporters in found.levels
        ]
        entries.sort(key=lambda one: one[0])
        for rank, lease, priority, exporters in entries:
            level = self._level(priority, exporters)
            level.waiting.append((rank, lease))
            level.count += 1

    def __len__(self) -> int:
        return len(self._here)

    def _level(self, priority: int, exporters: frozenset[Key]) -> _Level:
        level = self._levels.get((priority, exporters))
        if level is None:
            level = self._levels[priority, exporters] = _Level(priority, exporters)
            for key in exporters:
                self._at[key].append(level)
        return level

    def join(self, lease: Lease, found: Candidates) -> None:
        """Add a lease at the position that its rank gives."""
        self._here[lease.key] = found
        for priority, exporters in found.levels:
            level = self._level(priority, exporters)
            entries = (*level.waiting, (_rank(lease, priority), lease))
            level.waiting = deque(sorted(entries, key=lambda one: one[0]))
            level.count += 1

    def leave(self, lease: Key) -> None:
        """Remove a lease."""
        found = self._here.pop(lease, None)
        if found is not None:
            for level in found.levels:
                self._levels[level].count -= 1

    def next_for(self, exporter: Key) -> Lease | None:
        """The lease that this exporter would be allocated to if it were the only one; None if none waits for it."""
        fronts = (self._first(level) for level in self._at.get(exporter, ()))
        first = min((one for one in fronts if one is not None), key=lambda one: one[0], default=None)
        return None if first is None else first[1]

    def _first(self, level: _Level) -> tuple[Rank, Lease] | None:
        waiting = level.waiting
        while waiting and waiting[0][1].key not in self._here:
            waiting.popleft()
        return waiting[0] if waiting else None

    def _demand(self, exporter: Key) -> int:
        return sum(level.count for level in self._at[exporter])

    def allocate(self, pool: ExporterPool, reservations: Reservations, now: float) -> Iterator[Allocation]:
        """Allocate the free exporters. A lease that gets one leaves the queue."""
        free, free_at = pool.free, pool.free_at
        if not free or not self._here:
            return
        levels = {id(level): level for key in free for level in self._at[key]}
        if not levels:
            return
        reservations.make(free_at, now, self._demand)
        order = dict.fromkeys(sorted(free, key=pool.prefer))
        fronts = [self._front(level, free) for level in levels.values()]
        for rank, lease, level in heapq.merge(*fronts, key=lambda one: one[0]):
            if lease.key not in self._here:
                continue
            end = end_of(lease, now)
            wanted = level.exporters
            looked_at = (
                sorted(wanted & free, key=pool.prefer) if len(wanted) <= MAX_SORTED_CANDIDATES else order
            )
            possible = (key for key in looked_at if key in wanted and not reservations.blocks(key, end, rank))
            exporter = next(possible, None)
            if exporter is None:
                continue
            free.discard(exporter)
            del order[exporter]
            free_at[exporter] = end
            self.leave(lease.key)
            if reservations.conflicts(exporter, end):
                # A lease behind it loses its reservation; another exporter may be free for that one.
                reservations.make(free_at, now, self._demand)
            yield Allocation(lease, exporter, level.priority)

    def _front(self, level: _Level, free: set[Key]) -> Iterator[tuple[Rank, Lease, _Level]]:
        if self._first(level) is None:
            return
        for rank, lease in level.waiting:
            if level.exporters.isdisjoint(free):
                return
            if lease.key in self._here:
                yield rank, lease, level

    def positions(self) -> dict[Key, int]:
        """The position of each lease: one more than the number of leases that are served before it at best."""
        entries = sorted(
            (
                (rank, lease.key, level)
                for level in self._levels.values()
                for rank, lease in level.waiting
                if lease.key in self._here
            ),
            key=lambda one: one[0],
        )
        passed: Counter[tuple[Candidates, int]] = Counter()
        numbers: dict[Key, int] = {}
        for rank, key, level in entries:
            # A lease with several priorities counts only at the first one that competes with this lease.
            ahead = sum(
                count
                for (other, priority), count in passed.items()
                if other.first_of(level.exporters) == priority
            )
            numbers[key] = min(numbers.get(key, ahead + 1), ahead + 1)
            passed[self._here[key], -rank[0]] += 1
        return numbers
