"""Which connections of local users use a board, and until when. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LocalUse"]


@dataclass
class _Use:
    person: str
    active: float
    is_lost: bool = False
    """It was asked to leave."""


class LocalUse:
    """The local users of one board. Local use ends `grace` seconds after the last connection is closed."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._uses: dict[object, _Use] = {}
        self._last = ""
        """The last user."""
        self._left: float | None = None
        """When the last connection was closed; None while one is open, and when local use has ended."""

    def __bool__(self) -> bool:
        return bool(self._uses) or self._left is not None

    @property
    def people(self) -> set[str]:
        """The users; during the grace period, the last user."""
        people = {use.person for use in self._uses.values()}
        return people or ({self._last} if self._left is not None else set())

    @property
    def connected(self) -> set[str]:
        """The users of open connections."""
        return {use.person for use in self._uses.values()}

    def take(self, connection: object, person: str, now: float) -> None:
        """A connection starts to use the board, or resumes it."""
        self._uses[connection] = _Use(person, now)
        self.touch(connection, now)
        self._last = person
        self._left = None

    def touch(self, connection: object, now: float) -> None:
        """A user was active, which counts for all of that user's connections; unknown connections are ignored."""
        if (touched := self._uses.get(connection)) is not None:
            for use in self._uses.values():
                if use.person == touched.person:
                    use.active = max(use.active, now)

    def leave(self, connection: object, now: float) -> None:
        """A connection was closed; unknown connections are ignored."""
        if self._uses.pop(connection, None) is not None and not self._uses:
            self._left = now

    def deadline(self, idle: float | None) -> float | None:
        """When `expire` must be called at the latest."""
        uses = [use for use in self._uses.values() if not use.is_lost]
        times = [use.active + idle for use in uses] if idle is not None else []
        if self._left is not None:
            times.append(self._left + self._grace)
        return min(times, default=None)

    def expire(self, idle: float | None, now: float) -> list[object]:
        """The connections that must leave because their users were idle for `idle` seconds; None means no limit.

        They keep the board until they are closed: their last calls may take time to end.
        """
        late = [
            connection
            for connection, use in self._uses.items()
            if idle is not None and not use.is_lost and now >= use.active + idle
        ]
        for connection in late:
            self._uses[connection].is_lost = True
        if self._left is not None and now >= self._left + self._grace:
            self._left = None
        return late
