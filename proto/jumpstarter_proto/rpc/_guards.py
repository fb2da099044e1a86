"""Against peers that cost us much and themselves nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

__all__ = ["LimitedLog", "RateGuard"]


class RateGuard:
    """Counts what a peer makes us do: `rate` per second is fine, and `burst` at once."""

    __slots__ = ("_at", "_burst", "_level", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = 0.0
        self._at = 0.0

    def count(self, now: float, amount: float = 1.0) -> bool:
        """So much more. Returns whether that is too much."""
        self._level = max(0.0, self._level - (now - self._at) * self._rate) + amount
        self._at = now
        return self._level > self._burst


class LimitedLog:
    """Log lines that peers cause: all are counted, and a limited number is written, so that no peer can fill a disk."""

    BURST = 10
    PER_MINUTE = 20

    def __init__(self, log: logging.Logger, level: int = logging.WARNING) -> None:
        self.total = 0
        self._log = log
        self._level = level
        self._tokens, self._at = float(self.BURST), time.monotonic()
        self._left_out = 0

    def write(self, sentence: str, extra: Mapping[str, str] | None = None) -> None:
        """One more."""
        self.total += 1
        now = time.monotonic()
        self._tokens = min(self.BURST, self._tokens + (now - self._at) * self.PER_MINUTE / 60)
        self._at = now
        if self._tokens < 1:
            self._left_out += 1
            return
        self._tokens -= 1
        left_out, self._left_out = self._left_out, 0
        more = f" ({left_out} more before it were not logged)" if left_out else ""
        self._log.log(self._level, "%s%s", sentence, more, extra=extra)
