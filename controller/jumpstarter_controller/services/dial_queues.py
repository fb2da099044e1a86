"""Who listens for connections to which lease: the queues between Dial and Listen.

They are in memory only: exporters open them again after a restart, and clients dial again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import trio
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2

from jumpstarter_controller.lab import Key

__all__ = ["CAPACITY", "DialQueue", "DialQueues"]

CAPACITY = 8
"""Connections that may wait for an exporter that is busy with its hook."""
RETURN_SECONDS = 30.0
"""An exporter whose call has ended has so long to listen again, and gets what still waited for it."""


DELIVERED_SECONDS = 3.0
"""An exporter that heard of a connection needs less to reach its router: one that died meanwhile may not have."""


class DialQueue:
    """One exporter's open Listen call."""

    def __init__(self, waiting: deque[jumpstarter_pb2.ListenResponse], process: str = "") -> None:
        """`process` is which one of the exporter's it is, if that is known."""
        self.waiting = waiting
        self.process = process
        self.replaced = False
        self.changed = trio.Event()
        self._delivered: deque[tuple[float, jumpstarter_pb2.ListenResponse]] = deque(maxlen=CAPACITY)

    def delivered(self, connection: jumpstarter_pb2.ListenResponse) -> None:
        """Its exporter has been sent that."""
        self._delivered.append((trio.current_time(), connection))

    @property
    def unproven(self) -> list[jumpstarter_pb2.ListenResponse]:
        """What was sent just now: if its process is dead, its client waits at the router for nobody."""
        since = trio.current_time() - DELIVERED_SECONDS
        return [connection for at, connection in self._delivered if at >= since]

    def wake(self) -> None:
        """Something was put, or it was replaced."""
        self.changed.set()

    async def next(self) -> jumpstarter_pb2.ListenResponse | None:
        """The next connection; None when another call has taken over."""
        while True:
            # Before it looks, and not between: a newer call may take what waits while others have their turn.
            await trio.lowlevel.checkpoint()
            if self.replaced:
                return None
            if self.waiting:
                return self.waiting.popleft()
            self.changed = trio.Event()
            await self.changed.wait()


@dataclass
class _Left:
    """What waits where nobody listens, and until when it is kept."""

    until: float = 0.0
    waiting: deque[jumpstarter_pb2.ListenResponse] = field(default_factory=deque)
    process: str = ""
    unproven: list[jumpstarter_pb2.ListenResponse] = field(default_factory=list)

    def lost_with_other_than(self, process: str) -> list[jumpstarter_pb2.ListenResponse]:
        """What the process before this one was sent last; nothing where it is the same, or nobody knows."""
        return self.unproven if process and self.process and process != self.process else []


class DialQueues:
    """The listeners of all leases."""

    def __init__(self) -> None:
        self._listeners: dict[Key, DialQueue] = {}
        self._left: dict[Key, _Left] = {}
        self._arrivals: dict[Key, trio.Event] = {}
        """Of leases for whose listener somebody waits."""

    def listen(self, lease: Key, process: str = "") -> DialQueue:
        """Open a queue. An older one of the same lease ends, and what waits there comes along.

        So does what another `process` of the exporter was sent last: it is dead, and may not have got to it.
        """
        left = self._end(lease)
        left.waiting.extendleft(reversed(left.lost_with_other_than(process)))
        listener = self._listeners[lease] = DialQueue(left.waiting, process)
        self._arrivals.pop(lease, trio.Event()).set()
        return listener

    def take(self, lease: Key, process: str = "") -> list[jumpstarter_pb2.ListenResponse]:
        """End the call of its exporter, which listens at another controller now; what that is to deliver, in order."""
        left = self._end(lease)
        found = [*left.lost_with_other_than(process), *left.waiting]
        left.waiting.clear()
        return found

    def _end(self, lease: Key) -> _Left:
        """End the call of its exporter, if there is one; what it leaves."""
        before = self._listeners.pop(lease, None)
        if before is None:
            return self._take_left(lease)
        before.replaced = True
        before.wake()
        return _Left(0.0, before.waiting, before.process, before.unproven)

    async def until(self, lease: Key, seconds: float) -> None:
        """Wait until an exporter listens for connections to it, but not longer than that."""
        try:
            with trio.move_on_after(seconds):
                while lease not in self._listeners:
                    await self._arrivals.setdefault(lease, trio.Event()).wait()
        finally:  # others who wait still ask for another one
            self._arrivals.pop(lease, trio.Event()).set()

    def close(self, lease: Key, listener: DialQueue) -> None:
        """The call has ended; a newer one stays. What waits is kept for a while."""
        if self._listeners.get(lease) is listener:
            del self._listeners[lease]
            self._keep(lease, _Left(0.0, listener.waiting, listener.process, listener.unproven))

    def put_back(self, lease: Key, connection: jumpstarter_pb2.ListenResponse) -> None:
        """A connection could not be delivered: whoever listens, or listens next, gets it before all others."""
        listener = self._listeners.get(lease)
        if listener is not None:
            listener.waiting.appendleft(connection)
            listener.wake()
        else:
            left = self._take_left(lease)
            left.waiting.appendleft(connection)
            self._keep(lease, left)

    def _take_left(self, lease: Key) -> _Left:
        left = self._left.pop(lease, None)
        return left if left is not None and trio.current_time() < left.until else _Left()

    def _keep(self, lease: Key, left: _Left) -> None:
        now = trio.current_time()
        self._left = {key: other for key, other in self._left.items() if other.until > now}
        if left.waiting or (left.process and left.unproven):
            left.until = now + RETURN_SECONDS
            self._left[lease] = left

    def has(self, lease: Key) -> bool:
        """Whether an exporter listens for connections to it."""
        return lease in self._listeners

    def push(self, lease: Key, connection: jumpstarter_pb2.ListenResponse) -> None:
        """Hand a connection to the exporter.

        Raises:
            RpcError: UNAVAILABLE, nobody listens; RESOURCE_EXHAUSTED, too many wait already.
        """
        listener = self._listeners.get(lease)
        if listener is None:
            raise RpcError(
                StatusCode.UNAVAILABLE,
                f"exporter is not listening on lease {lease.name}; it may be back soon",
            )
        if len(listener.waiting) >= CAPACITY:
            raise RpcError(StatusCode.RESOURCE_EXHAUSTED, f"listener buffer full on lease {lease.name}")
        listener.waiting.append(connection)
        listener.wake()
