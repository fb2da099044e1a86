"""Leases that a command waits for, and when each command was last heard of.

A command that was killed cannot give its lease back. One that waits asks again every few seconds; when it does not any
more, its lease leaves the queue, and what it got meanwhile goes to others. In memory: after a restart, each has the
whole time again.
"""

from __future__ import annotations

from jumpstarter_controller.lab import Key, Lease

__all__ = ["PICKUP_SECONDS", "WAITER_SECONDS", "Waiters"]

WAITER_SECONDS = 60.0
"""A command that has not been heard of for so long is gone."""
PICKUP_SECONDS = 30.0
"""A command that waits has so long to see that it has got a board, if it was heard of just before."""


class Waiters:
    """By lease. Times are in seconds since the epoch."""

    def __init__(self) -> None:
        self._heard: dict[Key, float] = {}
        self._picked_up: dict[Key, None] = {}

    def heard(self, lease: Lease, now: float) -> None:
        """Its command has asked for it, and knows of its board if it has one."""
        self._heard[lease.key] = now
        if lease.accepted:
            self._picked_up[lease.key] = None

    def is_picked_up(self, lease: Key) -> bool:
        """Whether nobody has to be heard of any more."""
        return lease in self._picked_up

    def limit(self, lease: Lease, now: float) -> float:
        """When the lease ends unless its command is heard of."""
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
