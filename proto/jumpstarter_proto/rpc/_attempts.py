"""How often an address may give a wrong secret: so often in any minute, whatever all others do."""

from __future__ import annotations

from collections import deque
from itertools import islice

__all__ = ["Attempts"]

WINDOW_SECONDS = 60.0
MAX_PEERS = 16384
"""Limit of addresses that are remembered; the one with the oldest last attempt is dropped first."""


class Attempts:
    """Limits the wrong attempts of the last minute, for each peer and for all. Times are seconds of a monotonic clock.

    A peer with `per_peer` wrong attempts waits. A peer with fewer also waits while all peers together have had
    `overall`. A peer without a wrong attempt never waits, so that guesses from many addresses do not lock out others.
    """

    def __init__(self, per_peer: int = 10, overall: int = 600) -> None:
        self._per_peer = per_peer
        self._all = deque[float](maxlen=overall)
        self._peers: dict[str, list[float]] = {}
        """When they were, the oldest first; the peer with the newest at the end."""

    def take(self, peer: str, now: float) -> float:
        """Count a wrong attempt in advance. Returns 0 if it is allowed, else the seconds until the next try."""
        since = now - WINDOW_SECONDS
        while self._all and self._all[0] <= since:
            self._all.popleft()
        times = [time for time in self._peers.get(peer, ()) if time > since]
        if len(times) >= self._per_peer:
            return times[0] - since
        if times and len(self._all) == self._all.maxlen:
            return min(self._all[0], times[-1]) - since
        self._all.append(now)
        self._peers.pop(peer, None)
        self._peers[peer] = [*times, now]
        self._forget(since)
        return 0.0

    def give_back(self, peer: str, taken: float) -> None:
        """The attempt that was taken at that time was not wrong."""
        times = self._peers.get(peer, [])
        if taken in times:
            times.remove(taken)
        if not times:
            self._peers.pop(peer, None)
        if taken in self._all:
            self._all.remove(taken)

    def _forget(self, since: float) -> None:
        for oldest, times in list(islice(self._peers.items(), 2)):
            if times[-1] > since and len(self._peers) <= MAX_PEERS:
                break
            del self._peers[oldest]
