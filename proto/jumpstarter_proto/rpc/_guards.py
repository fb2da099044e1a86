"""Against peers that cost us much and themselves nothing."""

from __future__ import annotations

__all__ = ["ResetGuard"]


class ResetGuard:
    """Counts calls that a peer has opened and ended at once (CVE-2023-44487): `rate` per second, `burst` at once."""

    __slots__ = ("_at", "_burst", "_level", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = 0.0
        self._at = 0.0

    def count(self, now: float) -> bool:
        """One more. Returns whether that is too many."""
        self._level = max(0.0, self._level - (now - self._at) * self._rate) + 1
        self._at = now
        return self._level > self._burst
