"""The admission of a public server in use: each connection's time, and who has to wait or to leave for whom."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from jumpstarter_proto.rpc._admission import Admission, Limits
from jumpstarter_proto.rpc._transport import network_of
from jumpstarter_proto.rpc._types import RpcError, StatusCode

__all__ = ["Gate", "Visit"]


class Visit:
    """One connection, as long as it may stay: `scope` is cancelled when it has to go, for the `reason`."""

    def __init__(self, gate: Gate | None = None) -> None:
        self.scope = trio.CancelScope()
        self.unauthenticated_bytes: int | None = None
        """What it may make us hold; None when a caller was authenticated on it, or need not be."""
        self.is_authenticated = False
        self.reason = ""
        """Why it was cut, for the peer and for the log; empty while it was not."""
        self.ended = trio.Event()
        """Set when the connection is over."""
        self.working = 0
        """Calls that run now and take as long as what they do; those that handle them count."""
        self.heard = 0.0
        """When a message of its caller was received last, on trio's clock."""
        self._gate = gate
        self._let_in = trio.Event()
        self._since = 0.0
        self._expired = ""
        """What to say when the scope's deadline is over."""
        if gate is not None:
            self.unauthenticated_bytes = gate.limits.unauthenticated_bytes
            seconds = gate.limits.waiting_seconds
            self._expire(trio.current_time() + seconds, f"it waited {seconds:g} s for its turn")

    def cut(self, reason: str) -> None:
        """It has to go now."""
        self.reason = self.reason or reason
        self.scope.cancel()

    def why_cancelled(self) -> str:
        """The reason of a `scope` that is cancelled; empty for one that is not."""
        if self.scope.cancel_called:
            self.reason = self.reason or self._expired
        return self.reason

    def enter(self) -> None:
        """Its turn has come: its time to authenticate begins."""
        self._let_in.set()
        self._since = trio.current_time()
        self.renew()

    async def wait_for_turn(self) -> None:
        """Wait until it may be read from."""
        if self._gate is not None:
            await self._let_in.wait()

    def renew(self) -> None:
        """A call was answered: an unauthenticated caller's time begins anew."""
        gate = self._gate
        if gate is None or self.is_authenticated or self.scope.deadline == math.inf:
            return
        if gate.admission.is_contested(self):
            self.hurry()
            return
        seconds = gate.limits.unauthenticated_seconds
        self._expire(trio.current_time() + seconds, f"no caller was authenticated on it within {seconds:g} s")

    def hurry(self) -> None:
        """Others wait for its place."""
        if self._gate is not None:
            seconds = self._gate.limits.crowded_seconds
            if (due := self._since + seconds) < self.scope.deadline:
                self._expire(
                    due, f"no caller was authenticated on it within {seconds:g} s, and other connections wait"
                )

    def stay(self) -> None:
        """As long as it likes and nobody else needs its place."""
        self.scope.deadline = math.inf

    def trust(self, identity: str) -> None:
        """It has proved whose it is. RpcError RESOURCE_EXHAUSTED if that one has too many connections."""
        if self.is_authenticated:
            return
        if self._gate is None:
            self.is_authenticated = True
            return
        if not self._gate.admission.trust(self, identity):
            raise RpcError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"{identity} has {self._gate.limits.of_identity} connections open, and may have no more; "
                "close some and try again",
            )
        self.is_authenticated, self.unauthenticated_bytes = True, None
        self.stay()
        self._gate.let_in()

    def _expire(self, when: float, reason: str) -> None:
        self.scope.deadline, self._expired = when, reason


class Gate:
    """All connections of a server that anybody can reach."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.admission: Admission[Visit] = Admission(limits)

    @asynccontextmanager
    async def visit(self, peer: str) -> AsyncIterator[Visit]:
        """The stay of a connection of `peer` (gRPC's notation): entered at once, cancelled when it has to leave."""
        visit, network = Visit(self), network_of(peer)
        victim = self.admission.arrive(visit, network)
        if victim is not None:
            victim.cut("too many connections that are not authenticated; try again later")
        self.let_in()
        for other in self.admission.contested(network):
            other.hurry()
        try:
            with visit.scope:
                yield visit
        finally:
            self.admission.leave(visit)
            self.let_in()

    def let_in(self) -> None:
        """Let in all for whom there is a place."""
        for visit in self.admission.let_in():
            visit.enter()
