"""Looks after the signs of life of many connections in one task, as one for each would take kilobytes."""

from __future__ import annotations

import heapq
import itertools
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TypeAlias

import trio

__all__ = ["KeepAlives", "Look"]

_log = logging.getLogger(__name__)

Look: TypeAlias = Callable[[], float | None]
"""Does what is due for one connection. Returns when to call it again, on trio's clock; None for never."""


class _Watched:
    """One connection."""

    __slots__ = ("look",)

    def __init__(self, look: Look) -> None:
        self.look: Look | None = look
        """None when the connection has ended."""


class KeepAlives:
    """Calls each connection's `Look` when it is due, while `run` runs."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, _Watched]] = []
        """A heap. What has ended stays in it until it would be due."""
        self._numbers = itertools.count()
        self._sooner = trio.Event()

    @contextmanager
    def watching(self, due: float, look: Look) -> Iterator[None]:
        """Look after a connection for the block; it is due then first."""
        watched = _Watched(look)
        self._push(due, watched)
        if self._due[0][2] is watched:
            self._sooner.set()
        try:
            yield
        finally:
            watched.look = None

    async def run(self) -> NoReturn:
        """Ask each connection when it is due, until cancelled."""
        while True:
            self._sooner = trio.Event()
            with trio.move_on_at(self._due[0][0] if self._due else math.inf):
                await self._sooner.wait()
            now = trio.current_time()
            while self._due and self._due[0][0] <= now:
                self._look(heapq.heappop(self._due)[2])

    def _look(self, watched: _Watched) -> None:
        if watched.look is None:
            return
        try:
            due = watched.look()
        except Exception:
            # A connection's outermost edge: a fault of ours in one must not end the others.
            _log.exception("a connection was not asked for a sign of life")
            return
        if due is not None:
            self._push(due, watched)

    def _push(self, due: float, watched: _Watched) -> None:
        heapq.heappush(self._due, (due, next(self._numbers), watched))
