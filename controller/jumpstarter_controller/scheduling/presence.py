"""Which exporters are there. Seen by the minute, so it is not stored: after a restart all get a minute to return.

Of several controllers each knows which exporters are connected to it; which are to another is in their records, and
holds while that other lives.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from jumpstarter_controller.lab import Key

__all__ = ["OFFLINE_SECONDS", "ExporterPresence"]

OFFLINE_SECONDS = 60.0
"""An exporter that has said nothing for so long is offline."""


class ExporterPresence:
    """When each exporter was last heard of, in seconds since the epoch."""

    def __init__(self) -> None:
        self._seen: dict[Key, float] = {}
        self._connections: dict[Key, int] = {}
        self._replicas: dict[Key, str] = {}
        """Which other controller has a connection of it, as its record says."""
        self._living: frozenset[str] = frozenset()
        """Other controllers that live."""
        self._disconnected: dict[Key, None] = {}
        """Heard of, without a connection, and not known to be offline: the few that time can take away."""

    def saw(self, exporter: Key, now: float) -> None:
        """It said something."""
        self._seen[exporter] = now
        if not self.is_connected(exporter):
            self._disconnected[exporter] = None

    def connected(self, exporter: Key, now: float) -> None:
        """A status stream of it opened."""
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
        """Its record says that another controller has its connection; empty: none has."""
        if replica == self._replicas.get(exporter, ""):
            return
        if replica:
            self._replicas[exporter] = replica
        else:
            del self._replicas[exporter]
        self._disconnected.pop(exporter, None)
        self.saw(exporter, now)

    def lives(self, replicas: Iterable[str], now: float) -> None:
        """These other controllers live; who was connected to one that does not has a minute to return."""
        before, self._living = self._living, frozenset(replicas)
        for exporter, replica in self._replicas.items():
            if (replica in before) != (replica in self._living):
                self._disconnected.pop(exporter, None)
                self.saw(exporter, now)

    def forget(self, exporter: Key) -> None:
        """It was deleted or says that it leaves."""
        self._seen.pop(exporter, None)

    def is_connected(self, exporter: Key) -> bool:
        """Whether a status stream of it is open now, here or at another controller."""
        return exporter in self._connections or self._replicas.get(exporter) in self._living

    def is_here(self, exporter: Key) -> bool:
        """Whether a status stream of it is open at this controller."""
        return exporter in self._connections

    def last_seen(self, exporter: Key) -> float | None:
        """When it was heard of; None for never."""
        return self._seen.get(exporter)

    def is_fresh(self, exporter: Key, now: float) -> bool:
        """Whether it is connected, or was heard of within the minute.

        One that was heard of in the future, by a clock that was set back since, counts for a minute, too.
        """
        seen = self._seen.get(exporter)
        return self.is_connected(exporter) or (seen is not None and abs(now - seen) <= OFFLINE_SECONDS)

    def disconnected_exporters(self) -> list[Key]:
        """Whose presence is a matter of time: no connection, and nobody has said `settled`."""
        return list(self._disconnected)

    def confirm_offline(self, exporter: Key) -> None:
        """It is not fresh, and that is known: it stays so until it is heard of again, whatever the clock does."""
        self._disconnected.pop(exporter, None)
        if exporter in self._seen:
            self._seen[exporter] = -math.inf

    def shift(self, seconds: float) -> None:
        """The clock was set forward by so many seconds."""
        self._seen = {key: seen + seconds for key, seen in self._seen.items()}

    def next_loss(self) -> float | None:
        """When the next of those who are adrift will be offline. Ask when those who are not fresh are settled."""
        return min((self._seen[key] + OFFLINE_SECONDS for key in self._disconnected), default=None)
