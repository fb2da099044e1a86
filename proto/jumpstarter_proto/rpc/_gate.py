"""The door of a public server: each connection's time, and who has to leave for whom."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from jumpstarter_proto.rpc._admission import Admission, Limits
from jumpstarter_proto.rpc._transport import network_of, peer_of
from jumpstarter_proto.rpc._types import RpcError, StatusCode

__all__ = ["Gate", "Visit"]

LOG_SECONDS = 60.0
_log = logging.getLogger(__name__)


class Visit:
    """One connection, as long as it may stay: `scope` is cancelled when it has to go."""

    def __init__(self, gate: Gate | None = None) -> None:
        self.scope = trio.CancelScope()
        self.stranger_bytes: int | None = None
        """What it may make us hold; None when it is no stranger's."""
        self._gate = gate
        if gate is not None:
            self.stranger_bytes = gate.limits.stranger_bytes
            self.scope.deadline = trio.current_time() + gate.limits.stranger_seconds

    def renew(self) -> None:
        """A call was answered: a stranger's time begins anew."""
        if self._gate is not None and self.scope.deadline != math.inf:
            self.scope.deadline = trio.current_time() + self._gate.limits.stranger_seconds

    def stay(self) -> None:
        """As long as it likes and nobody else needs its place."""
        self.scope.deadline = math.inf

    def trust(self, identity: str) -> None:
        """It has proved whose it is. RpcError RESOURCE_EXHAUSTED if that one has too many connections."""
        if self._gate is None or self.stranger_bytes is None:
            return
        if not self._gate.admission.trust(self, identity):
            raise RpcError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"{identity} has {self._gate.limits.of_identity} connections open, and may have no more; "
                "close some and try again",
            )
        self.stranger_bytes = None
        self.stay()


class Gate:
    """All connections of a server that anybody can reach."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.admission: Admission[Visit] = Admission(limits)
        self._closed = 0
        self._said = -math.inf

    @contextmanager
    def visit(self, stream: trio.abc.Stream) -> Iterator[Visit]:
        """A connection's stay, which is cancelled when it has to leave; at once, if there is no room."""
        visit = Visit(self)
        victim = self.admission.arrive(visit, network_of(peer_of(stream)), trio.current_time())
        if victim is not None:
            victim.scope.cancel()
            self._say()
        try:
            with visit.scope:
                yield visit
        finally:
            self.admission.leave(visit)

    def _say(self) -> None:
        """Once a minute: whoever floods us must not flood the log."""
        self._closed += 1
        now = trio.current_time()
        if now - self._said >= LOG_SECONDS:
            _log.warning(
                "too many connections of nobody known (%d now): closed %d of them",
                self.admission.strangers,
                self._closed,
            )
            self._said, self._closed = now, 0
