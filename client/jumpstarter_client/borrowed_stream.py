"""A stream that is used, but not closed, by its user."""

from __future__ import annotations

import trio

__all__ = ["BorrowedStream"]


class BorrowedStream(trio.abc.HalfCloseableStream):
    """Sends on the stream of an owner, who closes it; subclasses decide what is received."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `trio.abc.HalfCloseableStream`."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.HalfCloseableStream`."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """See `trio.abc.HalfCloseableStream`."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Do nothing: the owner of the stream closes it."""
        await trio.lowlevel.checkpoint()
