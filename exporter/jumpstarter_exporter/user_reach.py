"""How far the user of a connection reaches with the exporter's own hands: its URLs, fetched and uploaded to.

Local users may as well fetch themselves. Who comes through a controller or the network gets a limit for all calls
of the connection; drivers know nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from jumpstarter_proto.reach import EVERYWHERE, Reach

__all__ = ["current_reach", "limit_reach", "reach_limited_to"]

_reach: ContextVar[Reach] = ContextVar("reach", default=EVERYWHERE)


def current_reach() -> Reach:
    """That of the user whose call this task serves."""
    return _reach.get()


def limit_reach(reach: Reach) -> None:
    """For the rest of a task."""
    _reach.set(reach)


@contextmanager
def reach_limited_to(reach: Reach) -> Iterator[None]:
    """For the tasks that are started in the block: those of a server or of one connection."""
    token = _reach.set(reach)
    try:
        yield
    finally:
        _reach.reset(token)
