"""Requests to a store that are made again until it answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio
from jumpstarter_proto.remote import Backoff

from jumpstarter_controller.store.contract import StoreError

__all__ = ["retried"]

FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 10.0
"""Between two tries of what the API server has not answered."""

T = TypeVar("T")


async def retried(
    ask: Callable[[], T], say: Callable[[str], None], *, limiter: trio.CapacityLimiter | None = None
) -> T:
    """What it gives in a thread, as soon as that does not fail with a StoreError; why it does is said.

    When cancelled, its thread is left to itself; what must not come before its end takes the same `limiter`.
    """
    backoff = Backoff(FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS)
    while True:
        try:
            return await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=limiter)
        except StoreError as error:
            say(str(error))
        await trio.sleep(backoff.next())
