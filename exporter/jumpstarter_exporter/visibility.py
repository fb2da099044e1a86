"""How much of the recordings the current call's user may see; drivers read it as `Driver.visible_since`.

A session sets it for its users. Local users see everything, and users of the network what was recorded during their
visit.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import trio
from jumpstarter_proto.rpc import ServedConnection, ServerCall

from jumpstarter_exporter.callers import caller_host
from jumpstarter_exporter.record_clock import RECORD_CLOCK

__all__ = ["LEAVE_SECONDS", "Visits", "see_all", "see_since", "sees_since"]

LEAVE_SECONDS = 10.0
"""A visit ends this long after its last connection was active: there is none between two commands."""

_since: ContextVar[float | None] = ContextVar("sees since", default=None)


def see_all() -> None:
    """Let the current call's user also see what was recorded before their session."""
    _since.set(0.0)


def see_since(then: float) -> None:
    """Hide what was recorded before `then` (seconds since the epoch) from the current call's user."""
    _since.set(max(_since.get() or 0.0, then))


def sees_since(session: float) -> float:
    """The start of what is visible, in seconds since the epoch; 0 is everything.

    `session` is the session's own start.
    """
    mine = _since.get()
    if mine is None:
        return session
    return max(mine, session) if mine else 0.0


@dataclass
class _Visit:
    since: float
    """Seconds since the epoch."""
    connections: set[ServedConnection] = field(default_factory=set)

    def is_over(self, now: float) -> bool:
        return all(one.ended.is_set() and now >= one.heard + LEAVE_SECONDS for one in self.connections)


class Visits:
    """When users of the network arrived. All users of one address count as one."""

    def __init__(self) -> None:
        self._visits: dict[str, _Visit] = {}

    def since(self, call: ServerCall[Any, Any]) -> float:
        """The start of the visit that this call belongs to, in seconds since the epoch."""
        host, now = caller_host(call), trio.current_time()
        if host not in self._visits or self._visits[host].is_over(now):
            self._visits = {one: visit for one, visit in self._visits.items() if not visit.is_over(now)}
            self._visits[host] = _Visit(RECORD_CLOCK.begin())
        visit = self._visits[host]
        if call.connection not in visit.connections:
            visit.connections = {one for one in visit.connections if not one.ended.is_set()}
            visit.connections.add(call.connection)
        return visit.since
