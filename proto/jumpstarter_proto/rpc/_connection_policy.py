"""Decides which connections a public server keeps, without clock and I/O.

A connection is unauthenticated until a call on it has proved who is calling. The number of those is limited for
each address and in all. More of them wait: the kernel has accepted them, and they are neither read nor refused. After a
restart a whole site connects again from one address, and each of its connections gets its turn. An address without a
connection gets one immediately: the address with the most loses its newest, so that nobody can lock out others.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["ConnectionLimits", "ConnectionPolicy"]

C = TypeVar("C")


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits of connections to a public server. Times in seconds, sizes in bytes."""

    connections: int = 8192
    """In all, those that wait too."""
    unauthenticated: int = 512
    """Connections on which no caller is authenticated."""
    unauthenticated_of_peer: int = 16
    """The same from one address."""
    waiting: int = 4096
    """Connections that wait to be served. One more closes the newest of the address that has the most of them."""
    of_identity: int = 1024
    """Authenticated connections of one identity."""
    unauthenticated_seconds: float = 30.0
    """An unauthenticated connection is closed if none of its calls was answered within this time."""
    crowded_seconds: float = 5.0
    """The same, counted from its beginning, while other connections wait for its place."""
    waiting_seconds: float = 60.0
    """A connection that has waited this long is closed."""
    unauthenticated_bytes: int = 64 * 1024
    """Bytes that an unauthenticated connection may make us buffer, in each direction."""


class ConnectionPolicy(Generic[C]):
    """All connections of a server. A connection is anything that can be a key."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._unauthenticated: dict[C, str] = {}
        """With their peers, in the order in which they began to be served."""
        self._peers: Counter[str] = Counter()
        self._waits: dict[C, str] = {}
        self._waiting: OrderedDict[str, OrderedDict[C, None]] = OrderedDict()
        """For each peer, its connections in order of arrival. The first peer is the next to be served."""
        self._authenticated: dict[C, str] = {}
        self._identities: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waits) + len(self._unauthenticated) + len(self._authenticated)

    @property
    def unauthenticated(self) -> int:
        """How many are served and not authenticated."""
        return len(self._unauthenticated)

    @property
    def waiting(self) -> int:
        """How many wait to be served."""
        return len(self._waits)

    def arrive(self, connection: C, peer: str) -> C | None:
        """Add a connection, which waits until `let_in` returns it. Returns the one to close for it, possibly itself."""
        self._waits[connection] = peer
        line = self._waiting.setdefault(peer, OrderedDict())
        line[connection] = None
        evicted: C | None = None
        has_to_wait = self._is_full or self._has_enough(peer)
        if (has_to_wait and len(self._waits) > self._limits.waiting) or len(self) > self._limits.connections:
            longest = max(self._waiting.values(), key=len)
            evicted = next(reversed(longest if len(longest) > len(line) else line))
        elif self._is_full and not self._peers[peer] and len(line) == 1:
            [(largest, count)] = self._peers.most_common(1)
            if count > 1:
                evicted = next(one for one, its in reversed(self._unauthenticated.items()) if its == largest)
                self._waiting.move_to_end(peer, last=False)
        if evicted is not None:
            self.leave(evicted)
        return evicted

    def let_in(self) -> list[C]:
        """The connections to serve now, one of each peer in turn."""
        found: list[C] = []
        while not self._is_full:
            peer = next((one for one in self._waiting if not self._has_enough(one)), None)
            if peer is None:
                break
            connection = next(iter(self._waiting[peer]))
            self._waiting.move_to_end(peer)
            self._forget_waiting(connection)
            self._unauthenticated[connection] = peer
            self._peers[peer] += 1
            found.append(connection)
        return found

    def contested(self, peer: str) -> list[C]:
        """Unauthenticated connections that occupy places for which connections of that peer wait."""
        if peer not in self._waiting:
            return []
        return [one for one, its in self._unauthenticated.items() if self._is_full or its == peer]

    def is_contested(self, connection: C) -> bool:
        """Whether others wait for its place."""
        return bool(self._waits) and (
            self._is_full or self._unauthenticated.get(connection, "") in self._waiting
        )

    def set_authenticated(self, connection: C, identity: str) -> bool:
        """A caller is authenticated; False if the identity has too many connections. The empty one has no limit."""
        if connection in self._authenticated:
            return True
        if connection not in self._unauthenticated:
            return True  # it was closed meanwhile
        if identity and self._identities[identity] >= self._limits.of_identity:
            return False
        self._forget_unauthenticated(connection)
        self._authenticated[connection] = identity
        self._identities[identity] += 1
        return True

    def leave(self, connection: C) -> None:
        """Remove a connection that has closed."""
        if connection in self._waits:
            self._forget_waiting(connection)
        if connection in self._unauthenticated:
            self._forget_unauthenticated(connection)
        identity = self._authenticated.pop(connection, None)
        if identity is not None:
            self._identities[identity] -= 1
            if not self._identities[identity]:
                del self._identities[identity]

    @property
    def _is_full(self) -> bool:
        return len(self._unauthenticated) >= self._limits.unauthenticated

    def _has_enough(self, peer: str) -> bool:
        return self._peers[peer] >= self._limits.unauthenticated_of_peer

    def _forget_waiting(self, connection: C) -> None:
        peer = self._waits.pop(connection)
        line = self._waiting[peer]
        del line[connection]
        if not line:
            del self._waiting[peer]

    def _forget_unauthenticated(self, connection: C) -> None:
        peer = self._unauthenticated.pop(connection)
        self._peers[peer] -= 1
        if not self._peers[peer]:
            del self._peers[peer]
