"""Tasks of trio: the one exception of a group, and the wait for whichever of several comes first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import overload

import trio

__all__ = ["collapsed", "first_of", "single"]


@overload
def single(error: Exception) -> Exception: ...
@overload
def single(error: BaseException) -> BaseException: ...
def single(error: BaseException) -> BaseException:
    """The one exception inside of groups of one, as nurseries raise them; a group of several is itself."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


@contextmanager
def collapsed() -> Iterator[None]:
    """Raise the one exception of a group as itself: its class decides what a user is told, not the number of tasks.

    Beside an exception, a cancellation that came at the same moment is dropped: what it was to end has ended.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        _, rest = group.split(trio.Cancelled)
        error = single(rest or group)
        if rest is None or isinstance(error, BaseExceptionGroup):
            raise
        raise error from error.__cause__


async def first_of(*waits: Callable[[], Awaitable[object]]) -> None:
    """Returns when one of them returns; the others are cancelled, and have ended.

    Args:
        waits: Functions without arguments, as the `wait` of an event.

    Raises:
        Exception: What one of them raises, as it is.
    """
    with collapsed():
        async with trio.open_nursery() as nursery:

            async def first(wait: Callable[[], Awaitable[object]]) -> None:
                await wait()
                nursery.cancel_scope.cancel()

            for wait in waits:
                nursery.start_soon(first, wait)
