"""When to give up a board that repeatedly fails soon after its start. No I/O, no clock."""

from __future__ import annotations

__all__ = ["RapidFailures"]


class RapidFailures:
    """Counts consecutive ends of serving that came within `window` seconds of the start."""

    def __init__(self, limit: int, window: float) -> None:
        """`limit` failures in a row are too many; a limit below one is treated as one."""
        self.limit = max(limit, 1)
        self.window = window
        self.count = 0
        """The number of failures in a row."""
        self._since: float | None = None

    @property
    def is_exceeded(self) -> bool:
        """Whether to give up now; never while the board is served."""
        return self._since is None and self.count >= self.limit

    def began(self, now: float) -> None:
        """Serving has started."""
        self._since = now

    def failed(self, now: float) -> None:
        """Serving has ended, or could not start."""
        since, self._since = self._since, None
        is_rapid = self.window > 0 if since is None else now - since < self.window
        self.count = self.count + 1 if is_rapid else 0

    def forget(self) -> None:
        """Reset the count: a person has intervened."""
        self.count = 0
