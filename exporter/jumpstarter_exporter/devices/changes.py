"""News of the inventory, or of one board, for trio's tasks: who is slow hears of the newest change, and not of each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from jumpstarter_exporter.devices.inventory import Revision

__all__ = ["Subscription", "subscribed"]


class Subscription:
    """Iterate it for revisions, each newer than the one before; the first is the newest at the beginning.

    Cancelling loses nothing: what was not given comes with the next.
    """

    def __init__(self, changing: Revision) -> None:
        self._changing = changing
        self._token = trio.lowlevel.current_trio_token()
        self._given = -1
        self._news = trio.Event()

    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        await trio.lowlevel.checkpoint()
        while True:
            news = self._news
            revision = self._changing.revision
            if revision > self._given:
                self._given = revision
                return revision
            await news.wait()

    def notify(self, revision: int) -> None:
        """There is a newer one; from any thread."""
        with suppress(trio.RunFinishedError):  # a driver's thread that outlives the loop
            self._token.run_sync_soon(self._wake, idempotent=True)

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()


@contextmanager
def subscribed(changing: Revision) -> Iterator[Subscription]:
    """A subscription for the block."""
    subscription = Subscription(changing)
    stop = changing.watch(subscription.notify)
    try:
        yield subscription
    finally:
        stop()
