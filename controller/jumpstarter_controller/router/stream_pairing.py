"""Who waits for whom: the first stream with a name waits, the second is its other side. No I/O."""

from __future__ import annotations

from collections import Counter
from typing import Generic, TypeVar

__all__ = ["StreamPairing", "TooManyStreamsError"]

S = TypeVar("S")


class TooManyStreamsError(Exception):
    """There are as many streams with that name as there may be."""


class StreamPairing(Generic[S]):
    """A rendezvous by name. A third stream with a name is a new first; there are `most` of a name at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[str, S] = {}
        self._here: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """How many wait for their other side."""
        return len(self._waiting)

    def arrive(self, name: str, side: S) -> S | None:
        """The other side, which has waited; None if this one has to wait.

        Raises:
            TooManyError: it does not come in.
        """
        if self._here[name] >= self._most:
            raise TooManyStreamsError
        self._here[name] += 1
        other = self._waiting.pop(name, None)
        if other is None:
            self._waiting[name] = side
        return other

    def leave(self, name: str, side: S) -> None:
        """A side that had come in is gone; whoever came after it under that name stays."""
        if self._waiting.get(name) is side:
            del self._waiting[name]
        self._here[name] -= 1
        if not self._here[name]:
            del self._here[name]
