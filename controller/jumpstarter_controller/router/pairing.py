"""Who waits for whom: the first stream with a name waits, the second is its other side. No I/O."""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["Pairing", "TooManyWaitError"]

S = TypeVar("S")


class TooManyWaitError(Exception):
    """There is no room for another stream that waits."""


class Pairing(Generic[S]):
    """A rendezvous by name. A third stream with a name is a new first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[str, S] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def arrive(self, name: str, side: S) -> S | None:
        """The other side, which has waited; None if this one has to wait.

        Raises:
            TooManyWaitError: it would have to wait, and too many do.
        """
        other = self._waiting.pop(name, None)
        if other is None:
            if len(self._waiting) >= self._most:
                raise TooManyWaitError
            self._waiting[name] = side
        return other

    def leave(self, name: str, side: S) -> None:
        """It waits no more; whoever came after it under that name stays."""
        if self._waiting.get(name) is side:
            del self._waiting[name]
