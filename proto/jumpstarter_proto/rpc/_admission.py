"""Which connections a public server keeps: no clock and no I/O of its own.

A connection is a stranger's until a call on it has proved who is calling. Strangers are few: when they are too many,
the peer that has more of them than others pays, so that nobody keeps others out from one address. Of its connections,
or of all where nobody has more, the oldest goes if that had its time; otherwise the newest, which may be the newcomer:
after a restart everybody comes at once, and those who came first are nearest to being let in.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Admission", "Limits"]

C = TypeVar("C")


@dataclass(frozen=True)
class Limits:
    """Of a public server. Times in seconds, sizes in bytes."""

    connections: int = 8192
    """In all."""
    strangers: int = 512
    """Connections that have not proved whose they are."""
    strangers_of_peer: int = 256
    """The same from one address."""
    of_identity: int = 1024
    """Connections that have proved to be the same one's."""
    stranger_seconds: float = 30.0
    """A stranger's connection that was answered nothing for so long is closed."""
    hurry_seconds: float = 5.0
    """A stranger's connection may be closed for a newcomer when it is so old."""
    stranger_bytes: int = 1024 * 1024
    """What a stranger may make us hold, either way."""


@dataclass
class _Stranger:
    peer: str
    since: float


class Admission(Generic[C]):
    """All connections of a server. A connection is anything that can be a key."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._strangers: dict[C, _Stranger] = {}
        """In the order in which they came."""
        self._peers: Counter[str] = Counter()
        self._trusted: dict[C, str] = {}
        self._identities: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._strangers) + len(self._trusted)

    @property
    def strangers(self) -> int:
        """How many have not proved whose they are."""
        return len(self._strangers)

    def arrive(self, connection: C, peer: str, now: float) -> C | None:
        """One more. Returns which one to close for it: another, itself, or None if there is room."""
        self._strangers[connection] = _Stranger(peer, now)
        self._peers[peer] += 1
        limits = self._limits
        crowd = list(self._strangers)
        if self._peers[peer] > limits.strangers_of_peer:
            crowd = self._of(peer)
        elif len(self._strangers) > limits.strangers or len(self) > limits.connections:
            greedy = max(self._peers, key=lambda one: self._peers[one])
            if self._peers[greedy] > self._peers[peer]:
                crowd = self._of(greedy)
        else:
            return None
        oldest = crowd[0]
        is_due = oldest != connection and now - self._strangers[oldest].since >= limits.hurry_seconds
        victim = oldest if is_due else crowd[-1]
        self.leave(victim)
        return victim

    def _of(self, peer: str) -> list[C]:
        return [one for one, stranger in self._strangers.items() if stranger.peer == peer]

    def trust(self, connection: C, identity: str) -> bool:
        """It has proved whose it is; False if that one has too many already. An empty identity is nobody's."""
        if connection in self._trusted:
            return True
        if connection not in self._strangers:
            return True  # it was closed meanwhile
        if identity and self._identities[identity] >= self._limits.of_identity:
            return False
        self._forget_stranger(connection)
        self._trusted[connection] = identity
        self._identities[identity] += 1
        return True

    def leave(self, connection: C) -> None:
        """It is gone."""
        if connection in self._strangers:
            self._forget_stranger(connection)
        identity = self._trusted.pop(connection, None)
        if identity is not None:
            self._identities[identity] -= 1
            if not self._identities[identity]:
                del self._identities[identity]

    def _forget_stranger(self, connection: C) -> None:
        peer = self._strangers.pop(connection).peer
        self._peers[peer] -= 1
        if not self._peers[peer]:
            del self._peers[peer]
