"""Repeats requests to a store until it answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio
from jumpstarter_proto.remote import Backoff

from jumpstarter_controller.store.contract import StoreError

__all__ = ["retried"]

FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 10.0
"""Between two attempts."""

T = TypeVar("T")


async def retried(
    ask: Callable[[], T], say: Callable[[str], None], *, limiter: trio.CapacityLimiter | None = None
) -> T:
    """Call `ask` in a thread, again and again while it raises StoreError; `say` is called with each error.

    When cancelled, the thread is abandoned. Calls that must not run before it ends have to use the same `limiter`.
    """
    backoff = Backoff(FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS)
    while True:
        try:
            return await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=limiter)
        except StoreError as error:
            say(str(error))
        await trio.sleep(backoff.next())
