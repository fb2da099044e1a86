"""How much of what was recorded the user of the current call may see; drivers read it as `Driver.visible_since`.

A session says it for its users. The host's own see all, and who comes over the network what came during their visit.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import trio
from jumpstarter_proto.rpc import ServedConnection, ServerCall

from jumpstarter_exporter.people import host_of

__all__ = ["LEAVE_SECONDS", "Visits", "see_all", "see_since", "sees_since"]

LEAVE_SECONDS = 10.0
"""A visit ends so long after its last connection was heard: between a user's commands there is none."""

_since: ContextVar[float | None] = ContextVar("sees since", default=None)


def see_all() -> None:
    """Let the current call's user see what was there before their session, too."""
    _since.set(0.0)


def see_since(then: float) -> None:
    """Let the current call's user see nothing from before then (seconds since 1970), nor what was hidden already."""
    _since.set(max(_since.get() or 0.0, then))


def sees_since(session: float) -> float:
    """From when on they may see it, in seconds since 1970; 0 is everything. `session` is that of their session."""
    mine = _since.get()
    if mine is None:
        return session
    return max(mine, session) if mine else 0.0


@dataclass
class _Visit:
    since: float
    """Seconds since 1970."""
    connections: set[ServedConnection] = field(default_factory=set)

    def is_over(self, now: float) -> bool:
        return all(one.ended.is_set() and now >= one.heard + LEAVE_SECONDS for one in self.connections)


class Visits:
    """Since when users on the network are here. All who come from one address are one user, as for who has a board."""

    def __init__(self) -> None:
        self._visits: dict[str, _Visit] = {}

    def since(self, call: ServerCall[Any, Any]) -> float:
        """The begin of the visit to which this call belongs, in seconds since 1970."""
        host, now = host_of(call), trio.current_time()
        if host not in self._visits or self._visits[host].is_over(now):
            self._visits = {one: visit for one, visit in self._visits.items() if not visit.is_over(now)}
            self._visits[host] = _Visit(time.time())
        visit = self._visits[host]
        if call.connection not in visit.connections:
            visit.connections = {one for one in visit.connections if not one.ended.is_set()}
            visit.connections.add(call.connection)
        return visit.since
