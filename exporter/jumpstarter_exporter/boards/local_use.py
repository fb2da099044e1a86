"""Which connections of the host's users use a board, and until when they have it. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LocalUse"]


@dataclass
class _Use:
    person: str
    active: float
    is_lost: bool = False
    """It has been told to go, and goes."""


class LocalUse:
    """All of one board's. It goes on for `grace` seconds after the last connection has left."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._uses: dict[object, _Use] = {}
        self._last = ""
        """Who used it last."""
        self._left: float | None = None
        """When the last connection left; None while one is there, and when local use is over."""

    def __bool__(self) -> bool:
        return bool(self._uses) or self._left is not None

    @property
    def people(self) -> set[str]:
        """Who has the board; within the grace, who used it last."""
        people = {use.person for use in self._uses.values()}
        return people or ({self._last} if self._left is not None else set())

    @property
    def connected(self) -> set[str]:
        """Whose connections use it now."""
        return {use.person for use in self._uses.values()}

    def take(self, connection: object, person: str, now: float) -> None:
        """A connection uses the board from now on, or does so again."""
        self._uses[connection] = _Use(person, now)
        self.touch(connection, now)
        self._last = person
        self._left = None

    def touch(self, connection: object, now: float) -> None:
        """Its user did something, which counts for all of their connections; one that uses nothing is ignored."""
        if (touched := self._uses.get(connection)) is not None:
            for use in self._uses.values():
                if use.person == touched.person:
                    use.active = max(use.active, now)

    def leave(self, connection: object, now: float) -> None:
        """It is gone; one that uses nothing is ignored."""
        if self._uses.pop(connection, None) is not None and not self._uses:
            self._left = now

    def deadline(self, idle: float | None) -> float | None:
        """When `expire` is to be called, at the latest."""
        uses = [use for use in self._uses.values() if not use.is_lost]
        times = [use.active + idle for use in uses] if idle is not None else []
        if self._left is not None:
            times.append(self._left + self._grace)
        return min(times, default=None)

    def expire(self, idle: float | None, now: float) -> list[object]:
        """Connections whose users did nothing for `idle` seconds, which are told to leave; None is for ever.

        They have the board until they are gone: what they did on it may take a while to come to its end.
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
