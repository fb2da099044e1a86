"""Limits which hosts the exporter contacts for a user: URLs that it fetches or uploads to.

Local users can fetch URLs themselves. Users of a controller or of the network get a limit for all calls of the
connection, which drivers do not see.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from jumpstarter_proto.reach import EVERYWHERE, Reach

__all__ = ["current_reach", "limit_reach", "reach_limited_to"]

_reach: ContextVar[Reach] = ContextVar("reach", default=EVERYWHERE)


def current_reach() -> Reach:
    """The limit of the user whose call this task serves."""
    return _reach.get()


def limit_reach(reach: Reach) -> None:
    """Set the limit for the rest of a task."""
    _reach.set(reach)


@contextmanager
def reach_limited_to(reach: Reach) -> Iterator[None]:
    """Set the limit for tasks that are started in the block: those of a server or of one connection."""
    token = _reach.set(reach)
    try:
        yield
    finally:
        _reach.reset(token)
