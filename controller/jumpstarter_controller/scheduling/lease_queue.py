"""Those who wait, in the order in which they are served, and what is promised to leases that begin later. No I/O.

An exporter goes to the lease that has the highest priority *there*, and among equals to the oldest. A lease passes
one in front of it only where that one could not have the exporter anyway: it is not among its candidates, or is
promised to somebody else before the lease would be over.
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
"""Smaller is served first."""
Preference: TypeAlias = Callable[[Key], Any]
"""Smaller is the better exporter."""


@dataclass(frozen=True)
class ExporterPool:
    """The exporters that are there. Granting them keeps it true."""

    free: set[Key]
    """Can be had now."""
    free_at: dict[Key, float]
    """When nobody holds it any more, of all of them."""
    prefer: Preference

    def copy(self) -> ExporterPool:
        """To try things with."""
        return ExporterPool(set(self.free), dict(self.free_at), self.prefer)


MAX_RESERVATIONS = 32
"""Of those who begin later, so many in the order of the line are promised an exporter: looking for one costs time."""
MAX_SORTED_CANDIDATES = 8
"""So few exporters are looked at one by one."""


class Allocation(NamedTuple):
    """A lease gets an exporter."""

    lease: Lease
    exporter: Key
    priority: int


def end_of(lease: Lease, now: float) -> float:
    """When a lease that gets an exporter now will be over."""
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
    """Which exporters leases that begin later will have, so that nobody behind them takes these for too long.

    One exporter is promised to each, in the order of the line, that is free for all of its time as far as that
    is known; of several the one that the fewest others want. A lease for which there is none has no promise: it
    waits in the line when its time has come.
    """

    def __init__(self, later: Sequence[tuple[Lease, Candidates]]) -> None:
        self.later = sorted(later, key=lambda one: _rank(one[0], one[1].priority))
        self.times = 0
        """How often they were made."""
        self._made: dict[Key, list[_Reservation]] = {}

    def make(self, free_at: dict[Key, float], now: float, demand: Callable[[Key], int]) -> None:
        """Promise anew; exporters that are not in `free_at` cannot be counted on. `wanted` is how many wait for one."""
        self._made = {}
        if not self.later:
            return
        self.times += 1
        # Those whose begin is over stand in the line.
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
        """Whether a lease that has it until then is in somebody's way."""
        return any(one.begin < end for one in self._made.get(exporter, ()))

    def blocks(self, exporter: Key, end: float, rank: Rank) -> bool:
        """Whether who stands there in the line cannot have it until then."""
        return any(one.begin < end and one.rank < rank for one in self._made.get(exporter, ()))


class _Level:
    """All leases that want the same exporters with the same priority, in their order."""

    def __init__(self, priority: int, exporters: frozenset[Key]) -> None:
        self.priority = priority
        self.exporters = exporters
        self.waiting: deque[tuple[Rank, Lease]] = deque()
        """Some of them may have left the line since."""
        self.count = 0
        """Of those who are still in the line."""


class LeaseQueue:
    """The line at one moment. It changes as leases join, get their exporter or leave."""

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
        """One more, at its place."""
        self._here[lease.key] = found
        for priority, exporters in found.levels:
            level = self._level(priority, exporters)
            entries = (*level.waiting, (_rank(lease, priority), lease))
            level.waiting = deque(sorted(entries, key=lambda one: one[0]))
            level.count += 1

    def leave(self, lease: Key) -> None:
        """It waits no more."""
        found = self._here.pop(lease, None)
        if found is not None:
            for level in found.levels:
                self._levels[level].count -= 1

    def next_for(self, exporter: Key) -> Lease | None:
        """Who is served next there, if it were the only exporter; None if nobody wants it."""
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
        """Give the free exporters away. Who gets one has left the line."""
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
                # What was promised to one behind it is gone; there may be another for that one.
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
        """The place of each: one more than those who are served before it where it stands best."""
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
            # Of others with several priorities, only where they first meet this one counts: nobody counts twice.
            ahead = sum(
                count
                for (other, priority), count in passed.items()
                if other.first_of(level.exporters) == priority
            )
            numbers[key] = min(numbers.get(key, ahead + 1), ahead + 1)
            passed[self._here[key], -rank[0]] += 1
        return numbers
