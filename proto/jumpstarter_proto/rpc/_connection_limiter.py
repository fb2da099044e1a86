"""Applies a `ConnectionPolicy` to a public server: how long each connection may stay, and which wait or are closed."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from jumpstarter_proto.rpc._connection_policy import ConnectionLimits, ConnectionPolicy
from jumpstarter_proto.rpc._transport import Credentials, network_of
from jumpstarter_proto.rpc._types import RpcError, StatusCode

__all__ = ["ConnectionLimiter", "ConnectionSlot"]


class ConnectionSlot:
    """One connection's place at the server. `scope` is cancelled when the connection must close, `reason` says why."""

    def __init__(self, limiter: ConnectionLimiter | None = None) -> None:
        self.scope = trio.CancelScope()
        self.unauthenticated_bytes: int | None = None
        """Bytes that it may make us buffer; None if a caller is authenticated, or need not be."""
        self.is_authenticated = False
        self.reason = ""
        """Why it was closed, for the peer and the log; empty before."""
        self.ended = trio.Event()
        """Set when the connection is over."""
        self.working = 0
        """Number of running calls that are not held open by their caller; handlers count them."""
        self.heard = 0.0
        """Time of the caller's last message, on trio's clock."""
        self.credentials: Credentials | None = None
        """Who has made the connection, if it is a unix socket's."""
        self._limiter = limiter
        self._let_in = trio.Event()
        self._since = 0.0
        self._expired = ""
        """The reason to give when the scope's deadline has passed."""
        if limiter is not None:
            self.unauthenticated_bytes = limiter.limits.unauthenticated_bytes
            seconds = limiter.limits.waiting_seconds
            self._expire(trio.current_time() + seconds, f"it waited {seconds:g} s for its turn")

    def cut(self, reason: str) -> None:
        """Close it now."""
        self.reason = self.reason or reason
        self.scope.cancel()

    def why_cancelled(self) -> str:
        """The reason of a `scope` that is cancelled; empty for one that is not."""
        if self.scope.cancel_called:
            self.reason = self.reason or self._expired
        return self.reason

    def enter(self) -> None:
        """Begin to serve it: its time to authenticate starts."""
        self._let_in.set()
        self._since = trio.current_time()
        self.renew()

    async def wait_for_turn(self) -> None:
        """Wait until it is served."""
        if self._limiter is not None:
            await self._let_in.wait()

    def renew(self) -> None:
        """A call was answered: restart the time limit of an unauthenticated caller."""
        limiter = self._limiter
        if limiter is None or self.is_authenticated or self.scope.deadline == math.inf:
            return
        if limiter.policy.is_contested(self):
            self.hurry()
            return
        seconds = limiter.limits.unauthenticated_seconds
        self._expire(trio.current_time() + seconds, f"no caller was authenticated on it within {seconds:g} s")

    def hurry(self) -> None:
        """Shorten the time limit, as other connections wait for the place."""
        if self._limiter is not None:
            seconds = self._limiter.limits.crowded_seconds
            if (due := self._since + seconds) < self.scope.deadline:
                self._expire(
                    due, f"no caller was authenticated on it within {seconds:g} s, and other connections wait"
                )

    def disable_auth_timeout(self) -> None:
        """Remove the time limit for authentication; the connection may still be closed if others need its place."""
        self.scope.deadline = math.inf

    def set_authenticated(self, identity: str) -> None:
        """A caller is authenticated. RpcError RESOURCE_EXHAUSTED if this identity has too many connections."""
        if self.is_authenticated:
            return
        if self._limiter is None:
            self.is_authenticated = True
            return
        if not self._limiter.policy.set_authenticated(self, identity):
            raise RpcError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"{identity} has {self._limiter.limits.of_identity} connections open, and may have no more; "
                "close some and try again",
            )
        self.is_authenticated, self.unauthenticated_bytes = True, None
        self.disable_auth_timeout()
        self._limiter.let_in()

    def _expire(self, when: float, reason: str) -> None:
        self.scope.deadline, self._expired = when, reason


class ConnectionLimiter:
    """Limits the connections of a public server."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.policy: ConnectionPolicy[ConnectionSlot] = ConnectionPolicy(limits)

    @asynccontextmanager
    async def admit(self, peer: str) -> AsyncIterator[ConnectionSlot]:
        """A slot for a connection of `peer` (gRPC's notation). The block is cancelled when it must close."""
        slot, network = ConnectionSlot(self), network_of(peer)
        evicted = self.policy.arrive(slot, network)
        if evicted is not None:
            evicted.cut("too many connections that are not authenticated; try again later")
        self.let_in()
        for other in self.policy.contested(network):
            other.hurry()
        try:
            with slot.scope:
                yield slot
        finally:
            self.policy.leave(slot)
            self.let_in()

    def let_in(self) -> None:
        """Serve the connections for which there is a place now."""
        for slot in self.policy.let_in():
            slot.enter()
