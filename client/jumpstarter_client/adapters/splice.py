"""Two byte streams become one: what comes out of either goes into the other."""

from __future__ import annotations

import trio

__all__ = ["splice"]


async def splice(one: trio.abc.HalfCloseableStream, other: trio.abc.HalfCloseableStream) -> None:
    """Copy both ways until both directions have ended, or either stream breaks. Closes neither."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_copy, one, other, nursery.cancel_scope)
        nursery.start_soon(_copy, other, one, nursery.cancel_scope)


async def _copy(
    source: trio.abc.HalfCloseableStream, sink: trio.abc.HalfCloseableStream, both: trio.CancelScope
) -> None:
    try:
        while data := await source.receive_some():
            await sink.send_all(data)
        await sink.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        both.cancel()
