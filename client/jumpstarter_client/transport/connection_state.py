"""The state of a channel that reconnects, named as in gRPC. No I/O.

The channel connects only for a call, so an idle client causes no traffic. After a lost connection it can connect
again; after a shutdown it cannot, and every call fails with the reason.
"""

from __future__ import annotations

import enum

from jumpstarter_proto.errors import JumpstarterUsageError
from jumpstarter_proto.rpc import RpcError

__all__ = ["TABLE", "ConnectionEvent", "ConnectionState", "ConnectionStateMachine", "FinalError"]


class FinalError(RpcError):
    """A status after which reconnecting is pointless, such as the end of the lease."""

    @classmethod
    def of(cls, error: RpcError) -> FinalError:
        """Return the same status as a final one."""
        return cls(error.code, error.details, error.trailing_metadata)


class ConnectionState(enum.Enum):
    """The state of a channel; the values are for error messages."""

    IDLE = "idle"
    """Not connected: no call yet, the connection was lost, or the last attempt failed."""
    CONNECTING = "connecting"
    """One attempt is running; calls wait for it."""
    READY = "ready"
    SHUTDOWN = "shut down"


class ConnectionEvent(enum.Enum):
    """What can happen to a channel."""

    REQUESTED = "requested"
    """A call needs a connection."""
    CONNECTED = "connected"
    FAILED = "failed"
    """The attempt failed; a later one may succeed."""
    LOST = "lost"
    SHUT_DOWN = "shut down"
    """No connection is made from now on."""


_S, _E = ConnectionState, ConnectionEvent
TABLE: dict[tuple[ConnectionState, ConnectionEvent], ConnectionState] = {
    (_S.IDLE, _E.REQUESTED): _S.CONNECTING,
    (_S.IDLE, _E.SHUT_DOWN): _S.SHUTDOWN,
    (_S.CONNECTING, _E.REQUESTED): _S.CONNECTING,
    (_S.CONNECTING, _E.CONNECTED): _S.READY,
    (_S.CONNECTING, _E.FAILED): _S.IDLE,
    (_S.CONNECTING, _E.SHUT_DOWN): _S.SHUTDOWN,
    (_S.READY, _E.REQUESTED): _S.READY,
    (_S.READY, _E.LOST): _S.IDLE,
    (_S.READY, _E.SHUT_DOWN): _S.SHUTDOWN,
    # Late events of an attempt or a connection do not change a channel that is shut down.
    **{(_S.SHUTDOWN, event): _S.SHUTDOWN for event in _E},
}
"""All transitions; any other event is a bug in the caller."""


class ConnectionStateMachine:
    """The state of one channel, and the reason for it."""

    def __init__(self) -> None:
        self.state = ConnectionState.IDLE
        self.reason: RpcError | None = None
        """Why it is idle or shut down; None before the first failure."""
        self.connections = 0
        """The number of connections so far."""

    def request(self) -> bool:
        """Request a connection. Returns whether the caller has to start the attempt; there is only one at a time."""
        before = self.state
        self._move(ConnectionEvent.REQUESTED)
        return before is ConnectionState.IDLE

    def mark_connected(self) -> None:
        """Record that the attempt succeeded."""
        if self._move(ConnectionEvent.CONNECTED) is ConnectionState.READY:
            self.connections += 1
            self.reason = None

    def mark_failed(self, reason: RpcError) -> None:
        """Record that the attempt failed; a `FinalError` shuts the channel down."""
        self._disconnect(
            ConnectionEvent.SHUT_DOWN if isinstance(reason, FinalError) else ConnectionEvent.FAILED, reason
        )

    def mark_lost(self, reason: RpcError) -> None:
        """Record that the connection was lost."""
        self._disconnect(ConnectionEvent.LOST, reason)

    def shut_down(self, reason: RpcError) -> None:
        """Make no connection from now on."""
        self._disconnect(ConnectionEvent.SHUT_DOWN, reason)

    def _disconnect(self, event: ConnectionEvent, reason: RpcError) -> None:
        if self.state is not ConnectionState.SHUTDOWN:
            self._move(event)
            self.reason = reason

    def _move(self, event: ConnectionEvent) -> ConnectionState:
        try:
            self.state = TABLE[self.state, event]
        except KeyError:
            raise JumpstarterUsageError(
                f"a channel that is {self.state.value} cannot be {event.value}"
            ) from None
        return self.state
