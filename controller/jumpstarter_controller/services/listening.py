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
            if self.replaced:
                await trio.lowlevel.checkpoint()
                return None
            if self.waiting:
                await trio.lowlevel.checkpoint()
                return self.waiting.popleft()
            self.changed = trio.Event()
            await self.changed.wait()


class Listening:
    """The listeners of all leases."""

    def __init__(self) -> None:
        self._listeners: dict[Key, Listener] = {}

    def listen(self, lease: Key) -> Listener:
        """Open a queue. An older one of the same lease ends, and what waits there comes along."""
        before = self._listeners.get(lease)
        waiting: deque[jumpstarter_pb2.ListenResponse] = deque()
        if before is not None:
            waiting.extend(before.waiting)
            before.waiting.clear()
            before.replaced = True
            before.wake()
        listener = self._listeners[lease] = Listener(waiting)
        return listener

    def close(self, lease: Key, listener: Listener) -> None:
        """The call has ended; a newer one stays."""
        if self._listeners.get(lease) is listener:
            del self._listeners[lease]

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
