"""Attaches to the console of a device, also before its port exists: a port on the board appears with its power."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

import trio

from jumpstarter_client.base import DriverClient

__all__ = ["Watchable", "attach"]


@runtime_checkable
class _Attachable(Protocol):
    """A client that can attach to a console before its port exists."""

    def attach_async(self) -> AbstractAsyncContextManager[trio.abc.HalfCloseableStream]:
        """Open the console."""


@runtime_checkable
class Watchable(Protocol):
    """A client that knows the position of its console, and so when all output has arrived."""

    def watch_async(self) -> AsyncGenerator[tuple[int, bytes], None]:
        """Yield the output from now on, each piece with the position after it; the first piece is empty.

        Raises NotImplementedError if the exporter does not support it.
        """

    async def position_async(self) -> int:
        """Return the position: how many bytes the console has printed."""


def attach(client: DriverClient) -> AbstractAsyncContextManager[trio.abc.HalfCloseableStream]:
    """Open the console of a device; its port may appear later. Works with any client that has `connect`.

    Raises DriverError if it cannot be opened.
    """
    return client.attach_async() if isinstance(client, _Attachable) else client.stream_async("connect")
