"""Two tasks that work on one thing, with one error."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

__all__ = ["together"]


@asynccontextmanager
async def together() -> AsyncIterator[trio.Nursery]:
    """A nursery of two tasks, one feeding the other; the error of the one that failed comes out bare."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        error = _first(group)
    else:
        return
    raise error


def _first(error: BaseException) -> BaseException:
    """The error that ended a group, rather than the cancels that it caused."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    inner = [_first(each) for each in error.exceptions]
    return next((each for each in inner if not isinstance(each, trio.Cancelled)), inner[0])
