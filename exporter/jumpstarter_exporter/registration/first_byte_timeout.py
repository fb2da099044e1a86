"""A time limit for the first byte of a connection through a router."""

from __future__ import annotations

import trio

__all__ = ["FirstByteTimeout"]


class FirstByteTimeout(trio.abc.Stream):
    """A stream that fails if its peer sends nothing within `seconds`.

    Clients send first. Some open connections that they never use; those must not block others.
    """

    def __init__(self, stream: trio.abc.Stream, seconds: float) -> None:
        self._stream = stream
        self._seconds = seconds
        self._heard = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive; BrokenResourceError if the first byte is late."""
        if self._heard:
            return bytes(await self._stream.receive_some(max_bytes))
        with trio.move_on_after(self._seconds):
            data = await self._stream.receive_some(max_bytes)
            self._heard = True
            return bytes(data)
        raise trio.BrokenResourceError(f"the peer has sent nothing for {self._seconds:g} s")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See trio.abc.SendStream."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """See trio.abc.SendStream."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """See trio.abc.AsyncResource."""
        await self._stream.aclose()
