"""An image on its way from a resource to the device: looked at, unpacked if it is packed, never empty."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from contextlib import asynccontextmanager

import trio
from jumpstarter_proto.encoding import MAGIC_LENGTH, Codec, ContentError, Encoding, decompressor, detect

__all__ = ["ImageStream", "decoded"]

_unpacking = trio.CapacityLimiter(2)
"""Threads that decompress, for the whole process: it is work for the CPU, and small hosts have few."""


class ImageStream:
    """Iterate it once for the plain bytes; `start` first, to learn that there are any.

    Iterating raises what the resource raises, and ContentError for damaged or cut compressed content.
    """

    def __init__(self, chunks: AsyncIterator[bytes], compression: str) -> None:
        self._chunks = chunks
        self._compression = compression
        self._head = b""

    async def start(self) -> None:
        """Wait for the first bytes. Raises ContentError when the stream ends before it has any."""
        while len(self._head) < MAGIC_LENGTH:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                break
            self._head += chunk
        if not self._head:
            raise ContentError("the image is empty; nothing was written, check the file")

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        head, self._head = self._head, b""
        encoding = detect(head) if self._compression == "auto" else None
        if self._compression not in ("auto", "none"):
            encoding = Encoding(self._compression)
        if encoding is None:
            yield head
            async for chunk in self._chunks:
                yield chunk
            return
        codec = decompressor(encoding)
        async for piece in _fed(codec, head):
            yield piece
        async for chunk in self._chunks:
            async for piece in _fed(codec, chunk):
                yield piece
        codec.finish()


async def _fed(codec: Codec, data: bytes) -> AsyncGenerator[bytes, None]:
    pieces = codec.feed(data)
    while piece := await trio.to_thread.run_sync(_take, pieces, limiter=_unpacking):
        yield piece


def _take(pieces: Iterator[bytes]) -> bytes:
    return next(pieces, b"")


@asynccontextmanager
async def decoded(chunks: AsyncIterable[bytes], compression: str) -> AsyncIterator[ImageStream]:
    """Wrap a resource's chunks; `compression` is auto, none or an encoding's name."""
    yield ImageStream(aiter(chunks), compression)
