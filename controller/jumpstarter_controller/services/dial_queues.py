"""The queues between Dial and Listen: connections that clients have dialled, for the exporter of each lease.

They are in memory only: after a restart exporters call Listen again, and clients dial again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import trio
from jumpstarter_proto.notifications import AutoResetEvent
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2

from jumpstarter_controller.lab import Key

__all__ = ["MAX_WAITING_CONNECTIONS", "DialQueue", "DialQueues"]

MAX_WAITING_CONNECTIONS = 8
"""Connections that may wait while the exporter runs its hook."""
RETURN_SECONDS = 30.0
"""How long the queue is kept after an exporter's Listen has ended."""


DELIVERED_SECONDS = 3.0
"""An exporter reaches the router within this time. One that died earlier may not have taken the connection."""


class DialQueue:
    """The open Listen call of an exporter, and its queue."""

    def __init__(self, waiting: deque[jumpstarter_pb2.ListenResponse], process: str = "") -> None:
        """`process` is the instance id of the exporter's process, if it is known."""
        self.waiting = waiting
        self.process = process
        self.replaced = False
        self.changed = AutoResetEvent()
        self._delivered: deque[tuple[float, jumpstarter_pb2.ListenResponse]] = deque(
            maxlen=MAX_WAITING_CONNECTIONS
        )

    def delivered(self, connection: jumpstarter_pb2.ListenResponse) -> None:
        """The connection was sent to the exporter."""
        self._delivered.append((trio.current_time(), connection))

    @property
    def unproven(self) -> list[jumpstarter_pb2.ListenResponse]:
        """Connections that were sent just now. If the exporter's process is dead, the clients wait in vain."""
        since = trio.current_time() - DELIVERED_SECONDS
        return [connection for at, connection in self._delivered if at >= since]

    def wake(self) -> None:
        """Wake `next`: a connection was added, or this call was replaced."""
        self.changed.set()

    async def next(self) -> jumpstarter_pb2.ListenResponse | None:
        """Wait for the next connection; None: a newer Listen has replaced this one."""
        while True:
            # Checkpoint before reading the queue: a newer call may take it over while other tasks run.
            await trio.lowlevel.checkpoint()
            if self.replaced:
                return None
            if self.waiting:
                return self.waiting.popleft()
            await self.changed.wait()


@dataclass
class _Left:
    """The queue of an exporter that does not listen, and until when it is kept."""

    until: float = 0.0
    waiting: deque[jumpstarter_pb2.ListenResponse] = field(default_factory=deque)
    process: str = ""
    unproven: list[jumpstarter_pb2.ListenResponse] = field(default_factory=list)

    def lost_with_other_than(self, process: str) -> list[jumpstarter_pb2.ListenResponse]:
        """Connections that were sent to a dead earlier process; empty if it is the same process, or unknown."""
        return self.unproven if process and self.process and process != self.process else []


class DialQueues:
    """The queues of all leases."""

    def __init__(self) -> None:
        self._listeners: dict[Key, DialQueue] = {}
        self._left: dict[Key, _Left] = {}
        self._arrivals: dict[Key, trio.Event] = {}
        """Leases with callers that wait for a Listen."""

    def listen(self, lease: Key, process: str = "") -> DialQueue:
        """Open the queue of a Listen call. An older call of the same lease ends, and its queue is taken over.

        Connections that were just sent to another `process` of the exporter are sent again: that process is dead.
        """
        left = self._end(lease)
        left.waiting.extendleft(reversed(left.lost_with_other_than(process)))
        listener = self._listeners[lease] = DialQueue(left.waiting, process)
        self._arrivals.pop(lease, trio.Event()).set()
        return listener

    def take(self, lease: Key, process: str = "") -> list[jumpstarter_pb2.ListenResponse]:
        """The exporter listens at another controller now: end its call here. Returns the queue to hand over."""
        left = self._end(lease)
        found = [*left.lost_with_other_than(process), *left.waiting]
        left.waiting.clear()
        return found

    def _end(self, lease: Key) -> _Left:
        """End the exporter's Listen call, if there is one. Returns its queue."""
        before = self._listeners.pop(lease, None)
        if before is None:
            return self._take_left(lease)
        before.replaced = True
        before.wake()
        return _Left(0.0, before.waiting, before.process, before.unproven)

    async def until(self, lease: Key, seconds: float) -> None:
        """Wait until the lease's exporter listens, at most `seconds`."""
        try:
            with trio.move_on_after(seconds):
                while lease not in self._listeners:
                    await self._arrivals.setdefault(lease, trio.Event()).wait()
        finally:  # other waiting tasks create a new event
            self._arrivals.pop(lease, trio.Event()).set()

    def close(self, lease: Key, listener: DialQueue) -> None:
        """The Listen call has ended. Its queue is kept for a while; a newer call is not affected."""
        if self._listeners.get(lease) is listener:
            del self._listeners[lease]
            self._keep(lease, _Left(0.0, listener.waiting, listener.process, listener.unproven))

    def put_back(self, lease: Key, connection: jumpstarter_pb2.ListenResponse) -> None:
        """A connection could not be delivered: put it at the front of the queue."""
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
        """Whether the lease's exporter listens."""
        return lease in self._listeners

    def push(self, lease: Key, connection: jumpstarter_pb2.ListenResponse) -> None:
        """Add a connection to the queue.

        Raises:
            RpcError: UNAVAILABLE, the exporter does not listen; RESOURCE_EXHAUSTED, the queue is full.
        """
        listener = self._listeners.get(lease)
        if listener is None:
            raise RpcError(
                StatusCode.UNAVAILABLE,
                f"exporter is not listening on lease {lease.name}; it may be back soon",
            )
        if len(listener.waiting) >= MAX_WAITING_CONNECTIONS:
            raise RpcError(StatusCode.RESOURCE_EXHAUSTED, f"listener buffer full on lease {lease.name}")
        listener.waiting.append(connection)
        listener.wake()
