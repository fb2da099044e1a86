"""Reading a device's console before there is one: a port on the board itself comes with the board's power."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

import trio

from jumpstarter_client.base import DriverClient

__all__ = ["Watchable", "attach"]


@runtime_checkable
class _Attachable(Protocol):
    """A client whose console can be read from before its port is there."""

    def attach_async(self) -> AbstractAsyncContextManager[trio.abc.HalfCloseableStream]:
        """The console from now on."""


@runtime_checkable
class Watchable(Protocol):
    """A client that knows how much its console has said, and so when all of that has come."""

    def watch_async(self) -> AsyncGenerator[tuple[int, bytes], None]:
        """What the console says from now on, each piece with the console's position behind it, the first one empty.

        Raises NotImplementedError where the exporter does not know this.
        """

    async def position_async(self) -> int:
        """The console's position now: bytes that it has said."""


def attach(client: DriverClient) -> AbstractAsyncContextManager[trio.abc.HalfCloseableStream]:
    """A device's console from now on, whether its port is there or comes later; of any client with a `connect`.

    Raises DriverError when it cannot be opened.
    """
    return client.attach_async() if isinstance(client, _Attachable) else client.stream_async("connect")
