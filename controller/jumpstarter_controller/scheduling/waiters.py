"""Tracks commands that wait for a lease, and when each was last heard from.

A command that was killed cannot release its lease. A waiting command watches its lease or polls it every few seconds;
if it stops, the lease leaves the queue, or its exporter goes to another lease. All of this is in memory: after a
restart each command has the full time again.

An open watch proves that the command waits, but not that it has read the last message: the connection to a suspended
computer stays open for a while and buffers data. So a command counts as informed of its board only if its watch is
still open after the time in which a silent connection would have been closed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from jumpstarter_controller.lab import Key, Lease

__all__ = ["PICKUP_SECONDS", "WAITER_SECONDS", "WATCHED_SECONDS", "Waiters"]

WAITER_SECONDS = 60.0
"""A command that was not heard from for this long is gone."""
PICKUP_SECONDS = 30.0
"""The time that a waiting command has to notice its board, if it was heard from just before."""
WATCHED_SECONDS = 60.0
"""If a watch is still open this long after the board was announced on it, the command has read the message. A
controller closes connections that were silent for 50 s (`app.OPTIONS`)."""


TELL_SECONDS = 20.0
"""How long other controllers are told that a command was heard from."""


class Waiters:
    """The waiting commands, by lease. Times are in seconds since the epoch."""

    def __init__(self) -> None:
        self._heard: dict[Key, float] = {}
        self._picked_up: dict[Key, None] = {}
        self._watches: dict[Key, dict[object, float]] = {}
        """Open watches, each with the time when the board was announced on it; infinite before that."""

    def heard(self, lease: Lease, now: float) -> None:
        """Its command has polled it, so it knows of the board if the lease has one."""
        self._heard[lease.key] = now
        if lease.accepted:
            self._picked_up[lease.key] = None

    def heard_elsewhere(self, lease: Key, now: float, *, knows: bool) -> None:
        """Another controller has heard from its command; `knows`: the command knows of its board."""
        self._heard[lease] = now
        if knows:
            self._picked_up[lease] = None

    def to_tell(self, leases: Iterable[Lease], now: float) -> dict[Key, bool]:
        """Leases whose commands watch or were heard from here, for the controller that leads.

        The value is True if the command knows of its board.
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
        """Its command has opened a watch, until `unwatched`."""
        self._watches.setdefault(lease, {})[watch] = math.inf

    def told(self, lease: Key, watch: object, now: float) -> None:
        """The board was announced on that watch."""
        watches = self._watches[lease]
        watches[watch] = min(watches[watch], now)

    def unwatched(self, lease: Key, watch: object, now: float) -> None:
        """The watch has ended."""
        watches = self._watches[lease]
        del watches[watch]
        if not watches:
            del self._watches[lease]
            if lease in self._heard:
                self._heard[lease] = now

    def is_picked_up(self, lease: Key, now: float) -> bool:
        """Whether the command knows of its board."""
        return lease in self._picked_up or now >= self._first_told(lease) + WATCHED_SECONDS

    def _first_told(self, lease: Key) -> float:
        return min(self._watches.get(lease, {}).values(), default=math.inf)

    def limit(self, lease: Lease, now: float) -> float:
        """When the lease ends unless its command is heard from."""
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
        """The lease was committed. Drop the state of leases that ended or whose commands know of their board."""
        if lease is None or not lease.waited or lease.ended is not None:
            self._heard.pop(key, None)
            self._picked_up.pop(key, None)

    def shift(self, seconds: float) -> None:
        """The clock was set forward by this many seconds."""
        self._heard = {key: heard + seconds for key, heard in self._heard.items()}
        for watches in self._watches.values():
            for watch in watches:
                watches[watch] += seconds
