"""Waits for whichever comes first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from jumpstarter_exporter.errors import collapsed

__all__ = ["first_of"]


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
