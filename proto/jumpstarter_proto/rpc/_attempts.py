"""How often somebody may be wrong: so often a minute for each peer, and for all together."""

from __future__ import annotations

__all__ = ["Attempts"]

WINDOW = 60.0
PEERS = 4096
"""Remembered at most. Who is forgotten begins anew, but counts among all."""


class Attempts:
    """Budgets that fill again over a minute. Times are seconds on one clock that never goes back."""

    def __init__(self, per_peer: int = 10, overall: int = 600) -> None:
        self._per_peer = per_peer
        self._overall = overall
        self._all = (float(overall), 0.0)
        self._peers: dict[str, tuple[float, float]] = {}
        """What is left, and as of when; those used last at the end."""

    def take(self, peer: str, now: float) -> float:
        """Use one attempt of a peer. 0 if it may go on, else so many seconds until it may try again."""
        left = self._left(self._peers.get(peer, (float(self._per_peer), now)), self._per_peer, now)
        left_of_all = self._left(self._all, self._overall, now)
        wait = max(
            (1 - left) * WINDOW / self._per_peer,
            (1 - left_of_all) * WINDOW / self._overall,
        )
        if wait > 0:
            return wait
        self._set(peer, left - 1, now)
        self._all = (left_of_all - 1, now)
        return 0.0

    def give_back(self, peer: str, now: float) -> None:
        """It was no wrong attempt."""
        left = self._left(self._peers.get(peer, (float(self._per_peer), now)), self._per_peer, now)
        self._set(peer, min(self._per_peer, left + 1), now)
        self._all = (min(self._overall, self._left(self._all, self._overall, now) + 1), now)

    def _set(self, peer: str, left: float, now: float) -> None:
        self._peers.pop(peer, None)
        self._peers[peer] = (left, now)
        if len(self._peers) > PEERS:
            del self._peers[next(iter(self._peers))]

    @staticmethod
    def _left(state: tuple[float, float], most: int, now: float) -> float:
        left, since = state
        return min(float(most), left + (now - since) * most / WINDOW)
