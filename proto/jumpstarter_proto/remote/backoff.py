"""How long to wait before the next try: longer each time, up to a cap, and never in step with others."""

from __future__ import annotations

import random

__all__ = ["Backoff"]


class Backoff:
    """Delays in seconds that double from `first` to `cap`, each cut by up to half at random.

    It never gives up. Without the random part, all exporters of a lab would come back to a restarted controller
    in the same moment.
    """

    def __init__(
        self, first: float = 0.5, cap: float = 30.0, *, random_source: random.Random | None = None
    ) -> None:
        self._first = first
        self._cap = cap
        self._random = random_source or random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._delay = first

    def next(self) -> float:
        """The delay before the next try."""
        delay = self._delay
        self._delay = min(self._cap, delay * 2)
        return delay * self._random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Something worked: the next failure is the first again."""
        self._delay = self._first
