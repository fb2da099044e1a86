"""Which exporters are online. It is not stored: after a restart all exporters have a minute to reconnect.

With several controllers, each knows the exporters that are connected to itself. The records of the others name their
controller, which counts as long as that controller is alive.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from jumpstarter_controller.lab import Key

__all__ = ["OFFLINE_SECONDS", "ExporterPresence"]

OFFLINE_SECONDS = 60.0
"""An exporter that was silent for this long is offline."""


class ExporterPresence:
    """When each exporter was last heard from, in seconds since the epoch."""

    def __init__(self) -> None:
        self._seen: dict[Key, float] = {}
        self._connections: dict[Key, int] = {}
        self._replicas: dict[Key, str] = {}
        """The other controller that each exporter is connected to, according to its record."""
        self._living: frozenset[str] = frozenset()
        """Other controllers that are alive."""
        self._disconnected: dict[Key, None] = {}
        """Exporters without a connection that are not confirmed offline. Usually few."""

    def saw(self, exporter: Key, now: float) -> None:
        """Record that an exporter made a call."""
        self._seen[exporter] = now
        if not self.is_connected(exporter):
            self._disconnected[exporter] = None

    def connected(self, exporter: Key, now: float) -> None:
        """One of its status streams was opened."""
        self._connections[exporter] = self._connections.get(exporter, 0) + 1
        self._disconnected.pop(exporter, None)
        self.saw(exporter, now)

    def disconnected(self, exporter: Key, now: float) -> None:
        """One of its status streams ended."""
        left = self._connections.get(exporter, 0) - 1
        if left > 0:
            self._connections[exporter] = left
        else:
            self._connections.pop(exporter, None)
        self.saw(exporter, now)

    def elsewhere(self, exporter: Key, replica: str, now: float) -> None:
        """Its record names the controller that it is connected to; empty: none."""
        if replica == self._replicas.get(exporter, ""):
            return
        if replica:
            self._replicas[exporter] = replica
        else:
            del self._replicas[exporter]
        self._disconnected.pop(exporter, None)
        self.saw(exporter, now)

    def lives(self, replicas: Iterable[str], now: float) -> None:
        """These other controllers are alive. Exporters of one that is not have a minute to reconnect."""
        before, self._living = self._living, frozenset(replicas)
        for exporter, replica in self._replicas.items():
            if (replica in before) != (replica in self._living):
                self._disconnected.pop(exporter, None)
                self.saw(exporter, now)

    def forget(self, exporter: Key) -> None:
        """It was deleted, or it has announced its end."""
        self._seen.pop(exporter, None)

    def is_connected(self, exporter: Key) -> bool:
        """Whether one of its status streams is open, here or at another controller."""
        return exporter in self._connections or self._replicas.get(exporter) in self._living

    def is_here(self, exporter: Key) -> bool:
        """Whether one of its status streams is open at this controller."""
        return exporter in self._connections

    def last_seen(self, exporter: Key) -> float | None:
        """When it was last heard from; None: never."""
        return self._seen.get(exporter)

    def is_fresh(self, exporter: Key, now: float) -> bool:
        """Whether it is connected, or was heard from within the last minute.

        After the clock was set back, a time up to one minute in the future counts as well.
        """
        seen = self._seen.get(exporter)
        return self.is_connected(exporter) or (seen is not None and abs(now - seen) <= OFFLINE_SECONDS)

    def disconnected_exporters(self) -> list[Key]:
        """Exporters without a connection that are not yet confirmed offline."""
        return list(self._disconnected)

    def confirm_offline(self, exporter: Key) -> None:
        """It is not fresh. It stays offline until it is heard from again, even if the clock is set."""
        self._disconnected.pop(exporter, None)
        if exporter in self._seen:
            self._seen[exporter] = -math.inf

    def shift(self, seconds: float) -> None:
        """The clock was set forward by this many seconds."""
        self._seen = {key: seen + seconds for key, seen in self._seen.items()}

    def next_loss(self) -> float | None:
        """When the next disconnected exporter goes offline. Call `confirm_offline` for the overdue ones first."""
        return min((self._seen[key] + OFFLINE_SECONDS for key in self._disconnected), default=None)
