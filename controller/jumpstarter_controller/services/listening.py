"""Who listens for connections to which lease: the queues between Dial and Listen.

They are in memory only: exporters open them again after a restart, and clients dial again.
"""

from __future__ import annotations

from collections import deque

import trio
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2

from jumpstarter_controller.lab import Key

__all__ = ["CAPACITY", "Listener", "Listening"]

CAPACITY = 8
"""Connections that may wait for an exporter that is busy with its hook."""
RETURN_SECONDS = 30.0
"""An exporter whose call has ended has so long to listen again, and gets what still waited for it."""


class Listener:
    """One exporter's open Listen call."""

    def __init__(self, waiting: deque[jumpstarter_pb2.ListenResponse]) -> None:
        self.waiting = waiting
        self.replaced = False
        self.changed = trio.Event()

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


class Listening:
    """The listeners of all leases."""

    def __init__(self) -> None:
        self._listeners: dict[Key, Listener] = {}
        self._left: dict[Key, tuple[float, deque[jumpstarter_pb2.ListenResponse]]] = {}
        """What waits where nobody listens, and until when it is kept."""
        self._arrivals: dict[Key, trio.Event] = {}
        """Of leases for whose listener somebody waits."""

    def listen(self, lease: Key) -> Listener:
        """Open a queue. An older one of the same lease ends, and what waits there comes along."""
        before = self._listeners.get(lease)
        if before is None:
            waiting = self._take_left(lease)
        else:
            waiting = before.waiting
            before.replaced = True
            before.wake()
        listener = self._listeners[lease] = Listener(waiting)
        self._arrivals.pop(lease, trio.Event()).set()
        return listener

    async def until(self, lease: Key, seconds: float) -> None:
        """Wait until an exporter listens for connections to it, but not longer than that."""
        try:
            with trio.move_on_after(seconds):
                while lease not in self._listeners:
                    await self._arrivals.setdefault(lease, trio.Event()).wait()
        finally:  # others who wait still ask for another one
            self._arrivals.pop(lease, trio.Event()).set()

    def close(self, lease: Key, listener: Listener) -> None:
        """The call has ended; a newer one stays. What waits is kept for a while."""
        if self._listeners.get(lease) is listener:
            del self._listeners[lease]
            self._keep(lease, listener.waiting)

    def put_back(self, lease: Key, connection: jumpstarter_pb2.ListenResponse) -> None:
        """A connection could not be delivered: whoever listens, or listens next, gets it before all others."""
        listener = self._listeners.get(lease)
        if listener is not None:
            listener.waiting.appendleft(connection)
            listener.wake()
        else:
            waiting = self._take_left(lease)
            waiting.appendleft(connection)
            self._keep(lease, waiting)

    def _take_left(self, lease: Key) -> deque[jumpstarter_pb2.ListenResponse]:
        until, waiting = self._left.pop(lease, (0.0, deque()))
        return waiting if trio.current_time() < until else deque()

    def _keep(self, lease: Key, waiting: deque[jumpstarter_pb2.ListenResponse]) -> None:
        now = trio.current_time()
        self._left = {key: left for key, left in self._left.items() if left[0] > now}
        if waiting:
            self._left[lease] = now + RETURN_SECONDS, waiting

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
