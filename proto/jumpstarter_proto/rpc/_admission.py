"""Which connections a public server keeps: no clock and no I/O of its own.

A connection is unauthenticated until a call on it has proved who is calling. An address has few of those at a time, all
addresses together a bounded number, and more of them wait: accepted by the kernel, not read, not refused. After a
restart a whole site comes back at once from one address, and each of its connections gets its turn. An address that has
no connection in yet gets one at once, at the cost of the address that has most, so that nobody keeps others out.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Admission", "Limits"]

C = TypeVar("C")


@dataclass(frozen=True)
class Limits:
    """Of a public server. Times in seconds, sizes in bytes."""

    connections: int = 8192
    """In all, those that wait too."""
    unauthenticated: int = 512
    """Connections that have not proved whose they are."""
    unauthenticated_of_peer: int = 16
    """The same from one address."""
    waiting: int = 4096
    """Connections that wait to be one of those. One more closes the newest of the address that has most of them."""
    of_identity: int = 1024
    """Connections that have proved to be the same one's."""
    unauthenticated_seconds: float = 30.0
    """An unauthenticated connection that was answered nothing for so long is closed."""
    crowded_seconds: float = 5.0
    """The same from its beginning, whatever it was answered, while others wait for its place."""
    waiting_seconds: float = 60.0
    """A connection that has waited so long is closed; whoever made it has given up."""
    unauthenticated_bytes: int = 64 * 1024
    """What an unauthenticated connection may make us hold, either way."""


class Admission(Generic[C]):
    """All connections of a server. A connection is anything that can be a key."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._unauthenticated: dict[C, str] = {}
        """With their peers, in the order in which they were let in."""
        self._peers: Counter[str] = Counter()
        self._waits: dict[C, str] = {}
        self._waiting: OrderedDict[str, OrderedDict[C, None]] = OrderedDict()
        """Those of each peer in the order in which they came; the peer whose turn is next is the first."""
        self._trusted: dict[C, str] = {}
        self._identities: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waits) + len(self._unauthenticated) + len(self._trusted)

    @property
    def unauthenticated(self) -> int:
        """How many are let in and have not proved whose they are."""
        return len(self._unauthenticated)

    @property
    def waiting(self) -> int:
        """How many wait to be let in."""
        return len(self._waits)

    def arrive(self, connection: C, peer: str) -> C | None:
        """One more, which waits until `let_in` names it. Returns which to close for it, possibly itself."""
        self._waits[connection] = peer
        line = self._waiting.setdefault(peer, OrderedDict())
        line[connection] = None
        victim: C | None = None
        has_to_wait = self._is_full or self._has_enough(peer)
        if (has_to_wait and len(self._waits) > self._limits.waiting) or len(self) > self._limits.connections:
            longest = max(self._waiting.values(), key=len)
            victim = next(reversed(longest if len(longest) > len(line) else line))
        elif self._is_full and not self._peers[peer] and len(line) == 1:
            [(greedy, count)] = self._peers.most_common(1)
            if count > 1:
                victim = next(one for one, its in reversed(self._unauthenticated.items()) if its == greedy)
                self._waiting.move_to_end(peer, last=False)
        if victim is not None:
            self.leave(victim)
        return victim

    def let_in(self) -> list[C]:
        """Those that need not wait any more, one of each peer in turn."""
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
        """The unauthenticated connections whose places those of that peer wait for."""
        if peer not in self._waiting:
            return []
        return [one for one, its in self._unauthenticated.items() if self._is_full or its == peer]

    def is_contested(self, connection: C) -> bool:
        """Whether others wait for its place."""
        return bool(self._waits) and (
            self._is_full or self._unauthenticated.get(connection, "") in self._waiting
        )

    def trust(self, connection: C, identity: str) -> bool:
        """It has proved whose it is; False if that one has too many already. An empty identity is nobody's."""
        if connection in self._trusted:
            return True
        if connection not in self._unauthenticated:
            return True  # it was closed meanwhile
        if identity and self._identities[identity] >= self._limits.of_identity:
            return False
        self._forget_unauthenticated(connection)
        self._trusted[connection] = identity
        self._identities[identity] += 1
        return True

    def leave(self, connection: C) -> None:
        """It is gone."""
        if connection in self._waits:
            self._forget_waiting(connection)
        if connection in self._unauthenticated:
            self._forget_unauthenticated(connection)
        identity = self._trusted.pop(connection, None)
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
