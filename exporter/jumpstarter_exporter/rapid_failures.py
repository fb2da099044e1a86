"""When a board that fails soon after its begin, again and again, is given up. No I/O, no clock.

It is `failureDetection` of a configuration, with the count of Jumpstarter 0.9, whose parent process starts another
child each time: a service manager may do more than we can, such as start the container anew.
"""

from __future__ import annotations

__all__ = ["RapidFailures"]


class RapidFailures:
    """Counts ends of a board's serving, one after another, that came within so many seconds of its begin."""

    def __init__(self, limit: int, window: float) -> None:
        """`limit`: so many in a row are too many; less than one is as one."""
        self.limit = max(limit, 1)
        self.window = window
        self.count = 0
        """How many there were in a row."""
        self._since: float | None = None

    @property
    def is_exceeded(self) -> bool:
        """Whether to give up now: never while it is served."""
        return self._since is None and self.count >= self.limit

    def began(self, now: float) -> None:
        """It is served from now on."""
        self._since = now

    def failed(self, now: float) -> None:
        """It is served no more, or its serving could not even begin."""
        since, self._since = self._since, None
        is_rapid = self.window > 0 if since is None else now - since < self.window
        self.count = self.count + 1 if is_rapid else 0

    def forget(self) -> None:
        """Count from the beginning: somebody has seen to it."""
        self.count = 0
