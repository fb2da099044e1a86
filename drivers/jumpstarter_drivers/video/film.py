"""Records a camera's pictures into a file, for so many seconds."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from jumpstarter_client.errors import DriverError
from jumpstarter_proto.rpc import StatusCode

from jumpstarter_drivers.video.matroska import MatroskaWriter
from jumpstarter_drivers.video.pictures import pictures

if TYPE_CHECKING:
    from jumpstarter_drivers.video.client import Recording, VideoClient

__all__ = ["record"]


async def record(client: VideoClient, seconds: float, output: Path, first_seconds: float) -> Recording:
    """Record from the first picture on. A cancellation leaves a film that is whole up to there.

    Raises:
        DriverError: There was no picture within `first_seconds`; says why. Nothing is written then.
        OSError: The file cannot be written.
    """
    from jumpstarter_drivers.video.client import Recording  # noqa: PLC0415 - it imports this module

    async with aclosing(pictures(client)) as found:
        with trio.move_on_after(first_seconds) as waiting:
            first = await anext(found)
        if waiting.cancelled_caught:
            reason = (await client.state.aio()).reason or f"no picture came within {first_seconds:g} s"
            raise DriverError(f"{client.path}: {reason}", code=StatusCode.UNAVAILABLE)
        with output.open("wb") as file:
            writer = MatroskaWriter(file, width=first.width, height=first.height, begin=first.time)
            try:
                writer.write(first.data, first.time)
                with trio.move_on_after(seconds):
                    async for picture in found:
                        await trio.to_thread.run_sync(writer.write, picture.data, picture.time)
            finally:
                writer.finish()
    return Recording(str(output), writer.pictures, writer.seconds, first.time)
