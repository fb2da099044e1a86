"""When to send a keep-alive PING to a silent peer, and when its connection is lost. No clock, no I/O."""

from __future__ import annotations

import enum

__all__ = ["KeepAlive", "KeepAliveStep"]


class KeepAliveStep(enum.Enum):
    """What to do at `KeepAlive.due`."""

    WAIT = enum.auto()
    PING = enum.auto()
    GIVE_UP = enum.auto()


class KeepAlive:
    """Times in seconds on any clock. Anything that comes from the peer is a sign of life, not only a PING's answer."""

    def __init__(self, interval: float, timeout: float, now: float) -> None:
        self._interval = interval
        self._timeout = timeout
        self._heard = now
        self._asked: float | None = None

    def heard(self, now: float) -> None:
        """Something came."""
        self._heard = now
        self._asked = None

    @property
    def due(self) -> float:
        """When to call `step` next. It only moves away, so that one may sleep until it."""
        return self._heard + self._interval if self._asked is None else self._asked + self._timeout

    def step(self, now: float) -> KeepAliveStep:
        """What to do now."""
        if now < self.due:
            return KeepAliveStep.WAIT
        if self._asked is not None:
            return KeepAliveStep.GIVE_UP
        self._asked = now
        return KeepAliveStep.PING
