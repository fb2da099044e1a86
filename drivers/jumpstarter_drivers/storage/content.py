"""An image on its way from a resource to the device: looked at, unpacked if it is packed, never empty."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import trio
from jumpstarter_proto.encoding import MAGIC_LENGTH, Codec, ContentError, Encoding, decompressor, detect

__all__ = ["ImageStream"]

_BATCH = 1024 * 1024
"""Plain bytes that one visit to a worker thread brings back at least, if there are so many."""

_unpacking = trio.CapacityLimiter(2)
"""Threads that decompress, for the whole process: it is work for the CPU, and small hosts have few."""


class ImageStream:
    """A resource's chunks, unpacked. Iterate it once for the plain bytes, after `start`.

    `compression` is auto (told by the content), none, or an encoding's name. Iterating raises what the
    resource raises, and ContentError for damaged or cut compressed content.
    """

    def __init__(self, chunks: AsyncIterator[bytes], compression: str) -> None:
        self._chunks = chunks
        self._compression = compression
        self._head = b""
        self._codec: Codec | None = None
        self._pieces: Iterator[bytes] | None = None

    async def start(self) -> None:
        """Wait for the first bytes. Raises ContentError when the stream ends before it has any."""
        while len(self._head) < MAGIC_LENGTH:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                break
            self._head += chunk
        if not self._head:
            raise ContentError("the image is empty; nothing was written, check the file")
        encoding = detect(self._head) if self._compression == "auto" else None
        if self._compression not in ("auto", "none"):
            encoding = Encoding(self._compression)
        self._codec = decompressor(encoding) if encoding else None

    def __aiter__(self) -> ImageStream:
        return self

    async def __anext__(self) -> bytes:
        if self._codec is None:
            return await self._next_chunk()
        while True:
            if self._pieces is None:
                try:
                    self._pieces = self._codec.feed(await self._next_chunk())
                except StopAsyncIteration:
                    self._codec.finish()  # raises when the content is not complete
                    raise
            plain = await trio.to_thread.run_sync(_batch, self._pieces, limiter=_unpacking)
            if len(plain) < _BATCH:
                self._pieces = None
            if plain:
                return plain

    async def _next_chunk(self) -> bytes:
        head, self._head = self._head, b""
        return head or await anext(self._chunks)


def _batch(pieces: Iterator[bytes]) -> bytes:
    """Take a good amount of a codec's output; less than `_BATCH` means that it is exhausted."""
    taken: list[bytes] = []
    length = 0
    while length < _BATCH and (piece := next(pieces, None)) is not None:
        taken.append(piece)
        length += len(piece)
    return b"".join(taken)
