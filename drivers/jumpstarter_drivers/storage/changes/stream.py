"""A flash of an image that comes to the exporter as it is, from a URL: compared here, and written where it differs."""

from __future__ import annotations

import hashlib

import trio
from jumpstarter_exporter.threads import DeviceThreads

from jumpstarter_drivers.storage.changes.layout import WindowHashes
from jumpstarter_drivers.storage.changes.medium import Medium
from jumpstarter_drivers.storage.changes.plan import Read, WindowAnswer
from jumpstarter_drivers.storage.changes.planned import PlannedFlash, Writing
from jumpstarter_drivers.storage.content import ImageStream, in_device_thread
from jumpstarter_drivers.storage.tasks import together

__all__ = ["StreamedChanges"]


class StreamedChanges(PlannedFlash):
    """One flash of a stream that has been started."""

    def __init__(self, stream: ImageStream, medium: Medium, threads: DeviceThreads) -> None:
        super().__init__(medium, threads)
        self.stream = stream

    def remarks(self) -> list[str]:
        """Say at the end what was left out."""
        return self.stream.remarks()

    async def _carry_out(self, writing: Writing) -> None:
        plan = writing.plan
        send, receive = trio.open_memory_channel[bytes](1)
        digest, size = hashlib.sha256(), 0

        def look(data: bytes) -> bytes:
            digest.update(data)
            return self._medium.hasher.hash(data)

        async with together() as nursery:
            nursery.start_soon(self._cut, send, plan.layout.window_bytes)
            with receive:  # no checkpoint: a cancel there would take the place of what is raised
                async for data in receive:
                    digests = await in_device_thread(self._threads, look, data)
                    everything = plan.layout.everything(len(data))
                    window = WindowHashes(size // plan.layout.window_bytes, len(data), everything, digests)
                    size += len(data)
                    await self._write_window(writing, window, data)
                    writing.progress(plan)
        plan.end(size)
        self.sha256 = digest.hexdigest()

    async def _cut(self, send: trio.MemorySendChannel[bytes], length: int) -> None:
        """Into windows, the next one while one is written."""
        pieces: list[bytes] = []
        count = 0
        with send:
            async for chunk in self.stream:
                view = memoryview(chunk)
                while view:
                    piece = bytes(view[: length - count])
                    view = view[len(piece) :]
                    pieces.append(piece)
                    count += len(piece)
                    if count == length:
                        await send.send(b"".join(pieces))
                        pieces, count = [], 0
            if pieces:
                await send.send(b"".join(pieces))

    async def _write_window(
        self,
        writing: Writing,
        window: WindowHashes,
        data: bytes,
    ) -> None:
        plan = writing.plan
        plan.announce(window)
        step = plan.next_step()
        if isinstance(step, Read):
            step = plan.read(window.index, await self._hashes(writing.device, window))
        assert isinstance(step, WindowAnswer)
        if not step.wanted and not step.zeros:
            return
        await writing.begin_write()
        if step.zeros:
            await self._write_zeros(writing, step)
        if step.wanted:
            start, view = window.index * plan.layout.window_bytes, memoryview(data)
            places = plan.arrived(window.index, window.digests_in(step.wanted))
            await writing.device.write_pieces(
                [(place, view[place - start : place - start + length]) for place, _, length in places]
            )
        plan.written(window.index)
