"""Subscriptions to changes of the inventory or of a board. A slow subscriber gets the newest revision, not each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import trio
from jumpstarter_proto.notifications import Broadcast

if TYPE_CHECKING:
    from jumpstarter_exporter.devices.inventory import RevisionCounter

__all__ = ["Subscription", "subscribed"]


class Subscription:
    """Iterate for revisions, each newer than the one before; the first is the newest at the start.

    Cancelling loses nothing: what was not given comes with the next.
    """

    def __init__(self, changing: RevisionCounter) -> None:
        self._changing = changing
        self._token = trio.lowlevel.current_trio_token()
        self._given = -1
        self._changed = Broadcast()

    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        await trio.lowlevel.checkpoint()
        while True:
            changed = self._changed.next
            revision = self._changing.revision
            if revision > self._given:
                self._given = revision
                return revision
            await changed.wait()

    def notify(self, revision: int) -> None:
        """There is a newer revision; from any thread."""
        with suppress(trio.RunFinishedError):  # a driver's thread that outlives the loop
            self._token.run_sync_soon(self._changed.notify, idempotent=True)


@contextmanager
def subscribed(changing: RevisionCounter) -> Iterator[Subscription]:
    """A subscription for the block."""
    subscription = Subscription(changing)
    stop = changing.watch(subscription.notify)
    try:
        yield subscription
    finally:
        stop()
