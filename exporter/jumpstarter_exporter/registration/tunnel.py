"""A client's connection as it comes through a router."""

from __future__ import annotations

import trio

__all__ = ["Expectant"]


class Expectant(trio.abc.Stream):
    """A stream whose peer has to say something within so many seconds, or is broken.

    Clients speak first. Some ask for a connection that they never use, and those must not take the place of others.
    """

    def __init__(self, stream: trio.abc.Stream, seconds: float) -> None:
        self._stream = stream
        self._seconds = seconds
        self._heard = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """As the stream."""
        if self._heard:
            return bytes(await self._stream.receive_some(max_bytes))
        with trio.move_on_after(self._seconds):
            data = await self._stream.receive_some(max_bytes)
            self._heard = True
            return bytes(data)
        raise trio.BrokenResourceError(f"nobody has spoken at the other end for {self._seconds:g} s")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As the stream."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """As the stream."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """As the stream."""
        await self._stream.aclose()
