"""Pairs streams by name: the first stream with a name waits, the second is its peer. No I/O."""

from __future__ import annotations

from collections import Counter
from typing import Generic, TypeVar

__all__ = ["StreamPairing", "TooManyStreamsError"]

S = TypeVar("S")


class TooManyStreamsError(Exception):
    """The limit of streams with this name is reached."""


class StreamPairing(Generic[S]):
    """A rendezvous by name, for at most `most` streams of one name. A third stream with a name waits for a fourth."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[str, S] = {}
        self._here: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """The number of streams that wait for their peer."""
        return len(self._waiting)

    def arrive(self, name: str, side: S) -> S | None:
        """The waiting peer; None if this stream has to wait.

        Raises:
            TooManyStreamsError: the limit is reached.
        """
        if self._here[name] >= self._most:
            raise TooManyStreamsError
        self._here[name] += 1
        other = self._waiting.pop(name, None)
        if other is None:
            self._waiting[name] = side
        return other

    def leave(self, name: str, side: S) -> None:
        """Remove a stream. A later stream with that name is not affected."""
        if self._waiting.get(name) is side:
            del self._waiting[name]
        self._here[name] -= 1
        if not self._here[name]:
            del self._here[name]
