"""Leases that a command waits for, and when each command was last heard of.

A command that was killed cannot give its lease back. One that waits watches it, or asks again every few
seconds; when it does not any more, its lease leaves the queue, and what it got meanwhile goes to others. In memory:
after a restart, each has the whole time again.

That a watch is open says that its command waits, but not that it has read what was sent to it last: a connection to a
computer that sleeps takes much, and stands for a while. So who is told of their board, and says nothing, is believed
to know it when the watch has lasted longer than a connection whose other end is silent would.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from jumpstarter_controller.lab import Key, Lease

__all__ = ["PICKUP_SECONDS", "WAITER_SECONDS", "WATCHED_SECONDS", "Waiters"]

WAITER_SECONDS = 60.0
"""A command that has not been heard of for so long is gone."""
PICKUP_SECONDS = 30.0
"""A command that waits has so long to see that it has got a board, if it was heard of just before."""
WATCHED_SECONDS = 60.0
"""A watch that is open so long after its command was told of its board has an end that reads. A controller cuts
connections that have been silent for 50 s (`app.OPTIONS`)."""


TELL_SECONDS = 20.0
"""That a command was heard of is told for so long."""


class Waiters:
    """By lease. Times are in seconds since the epoch."""

    def __init__(self) -> None:
        self._heard: dict[Key, float] = {}
        self._picked_up: dict[Key, None] = {}
        self._watches: dict[Key, dict[object, float]] = {}
        """Those that are open, each with when the news of their board was sent to it, infinite before."""

    def heard(self, lease: Lease, now: float) -> None:
        """Its command has asked for it, and knows of its board if it has one."""
        self._heard[lease.key] = now
        if lease.accepted:
            self._picked_up[lease.key] = None

    def heard_elsewhere(self, lease: Key, now: float, *, knows: bool) -> None:
        """Another controller has heard of its command, which `knows` of its board or not."""
        self._heard[lease] = now
        if knows:
            self._picked_up[lease] = None

    def to_tell(self, leases: Iterable[Lease], now: float) -> dict[Key, bool]:
        """Of which leases another controller that decides is to be told: their commands watch, or have been heard of.

        True: the command knows of its board.
        """
        found = {}
        for lease in leases:
            if not lease.waited or (lease.key not in self._watches and lease.key not in self._heard):
                continue
            if self.is_picked_up(lease.key, now):
                found[lease.key] = True
                continue
            is_watched = lease.key in self._watches and self.limit(lease, now) > now
            if is_watched or now - self._heard.get(lease.key, -math.inf) < TELL_SECONDS:
                found[lease.key] = False
        return found

    def watched(self, lease: Key, watch: object) -> None:
        """Its command watches it, until `unwatched`."""
        self._watches.setdefault(lease, {})[watch] = math.inf

    def told(self, lease: Key, watch: object, now: float) -> None:
        """It was sent to that watch that it has its board."""
        watches = self._watches[lease]
        watches[watch] = min(watches[watch], now)

    def unwatched(self, lease: Key, watch: object, now: float) -> None:
        """That watch has ended."""
        watches = self._watches[lease]
        del watches[watch]
        if not watches:
            del self._watches[lease]
            if lease in self._heard:
                self._heard[lease] = now

    def is_picked_up(self, lease: Key, now: float) -> bool:
        """Whether nobody has to be heard of any more."""
        return lease in self._picked_up or now >= self._first_told(lease) + WATCHED_SECONDS

    def _first_told(self, lease: Key) -> float:
        return min(self._watches.get(lease, {}).values(), default=math.inf)

    def limit(self, lease: Lease, now: float) -> float:
        """When the lease ends unless its command is heard of."""
        if lease.key in self._watches:
            self._heard[lease.key] = now
            if lease.begun is None:
                return math.inf
            told = self._first_told(lease.key)
            since = lease.begun + PICKUP_SECONDS if math.isinf(told) else told
            return since + WATCHED_SECONDS
        limit = self._heard.setdefault(lease.key, now) + WAITER_SECONDS
        return limit if lease.begun is None else max(limit, lease.begun + PICKUP_SECONDS)

    def written(self, key: Key, lease: Lease | None) -> None:
        """A lease is so on the disk: nobody has to be heard of any more for one that has ended or was picked up."""
        if lease is None or not lease.waited or lease.ended is not None:
            self._heard.pop(key, None)
            self._picked_up.pop(key, None)

    def shift(self, seconds: float) -> None:
        """The clock was set forward by so many seconds."""
        self._heard = {key: heard + seconds for key, heard in self._heard.items()}
        for watches in self._watches.values():
            for watch in watches:
                watches[watch] += seconds
