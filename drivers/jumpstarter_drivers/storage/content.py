"""An image on its way from a resource to the device: looked at before anything is done, then unpacked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import trio
from jumpstarter_exporter.driver import Source
from jumpstarter_exporter.threads import DeviceThreads
from jumpstarter_proto.images import Content, ImageReader, check_growth, open_image, trailing_remark

__all__ = ["ImageStream", "in_device_thread"]

T = TypeVar("T")

_BATCH_BYTES = 1024 * 1024
"""Plain bytes that one visit to a worker thread brings back at most."""


async def in_device_thread(threads: DeviceThreads, function: Callable[..., T], *arguments: object) -> T:
    """Run what works, and waits for nothing but the user, in one of the device's threads; it cannot be cancelled."""
    held = await threads.acquire()
    try:
        return await trio.to_thread.run_sync(function, *arguments, limiter=trio.CapacityLimiter(1))
    finally:
        threads.release(held)


class ImageStream:
    """A resource's chunks, unpacked. After `start`, iterate it once for the plain bytes.

    `compression` is auto (all layers come off, told by the content), none, or an encoding's name. Iterating raises
    what the resource raises, and ContentError for damaged or cut content.
    """

    def __init__(self, source: Source, compression: str, threads: DeviceThreads) -> None:
        """`threads` are those of the device that the image is for."""
        self._threads = threads
        self._source = source
        self._chunks = aiter(source)
        self._compression = compression
        self._rest = memoryview(b"")
        self._image: ImageReader | None = None
        self._head = b""
        self._count = 0
        self.has_medium_size = True
        """Whether the medium bounds the image; where it does not, content that grows without end is an error."""

    async def start(self) -> None:
        """Receive enough bytes to identify the content. Raises ContentError if it cannot be identified."""
        self._image = await self._in_thread(self._open)
        self._head = b"" if self._image.layers else self._image.head

    @property
    def content(self) -> Content:
        """The kind of the unpacked content; known after `start`."""
        return self._started.content

    def remarks(self) -> list[str]:
        """Say at the end what was left out."""
        outer = trailing_remark(self._source.trailing, "compressed", self._source.trailing_end)
        return [*outer, *self._started.remarks()]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        data = await self._next()
        self._count += len(data)
        if not self.has_medium_size:
            check_growth(self._source.received, self._count)
        return data

    async def _next(self) -> bytes:
        image = self._started
        if image.layers:
            data = await self._in_thread(image.read, _BATCH_BYTES)
            if not data:
                raise StopAsyncIteration
            return data
        # Without layers nothing is left to do in a thread, and what the threads have looked at comes first.
        if self._head:
            data, self._head = self._head, b""
            return data
        if self._rest:
            data, self._rest = bytes(self._rest), memoryview(b"")
            return data
        return await anext(self._chunks)

    @property
    def _started(self) -> ImageReader:
        assert self._image is not None, "start comes first"
        return self._image

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        """In one of the device's threads; unlike a driver's own code it hears of a cancellation, in `_pull`."""
        return await in_device_thread(self._threads, function, *arguments)

    def _open(self) -> ImageReader:
        return open_image(self._pull, compression=self._compression)

    def _pull(self, count: int) -> bytes:
        """In a worker thread: the next bytes of the resource."""
        if not self._rest:
            self._rest = memoryview(trio.from_thread.run(self._next_chunk))
        taken, self._rest = self._rest[:count], self._rest[count:]
        return bytes(taken)

    async def _next_chunk(self) -> bytes:
        return await anext(self._chunks, b"")
