"""The client's end of a flash of changes: an image that is read once, hashed, and sent as far as it is asked for.

It is read a window at a time, so that it may be packed, or come from a pipe; windows stay in memory until the exporter
has said which of their blocks it wants.
"""

from __future__ import annotations

import hashlib
from collections import deque

import trio
from jumpstarter_proto.images import ImageReader

from jumpstarter_drivers.storage.changes.block_map import BlockMap, RangeChecker
from jumpstarter_drivers.storage.changes.layout import BlockHasher, WindowHashes
from jumpstarter_drivers.storage.changes.messages import (
    BeginMessage,
    Blocks,
    EndMessage,
    FlashMessageReader,
    Head,
    MessageError,
    WantedMessage,
    encode_hashes,
)
from jumpstarter_drivers.storage.tasks import together

__all__ = ["ChangeSender"]


class ChangeSender:
    """Both directions of the stream, for `resource_async`; each is for one task."""

    def __init__(self, image: ImageReader, block_map: BlockMap | None = None) -> None:
        self.image = image
        self._map = block_map
        self._checker = RangeChecker(block_map) if block_map else None
        self._reader = FlashMessageReader()
        self._hasher: BlockHasher | None = None
        self._ahead = 0
        self._news = trio.Event()
        self._open: dict[int, bytes] = {}
        """Windows that are announced, and not answered or still to be sent."""
        self._wanted: deque[WantedMessage] = deque()
        self._digest = hashlib.sha256()
        self._size = 0
        self._has_sent_head = False
        self._is_at_end = False
        self._has_sent_end = False
        self.sent = 0
        """Bytes that went to the exporter."""

    async def receive_some(self, max_bytes: int | None = None, /) -> bytes:
        """The next message to the exporter; empty at the end. Raises what reading the image raises."""
        message = await self._next_message()
        self.sent += len(message)
        return message

    async def _next_message(self) -> bytes:
        while not self._has_sent_end:
            if not self._has_sent_head:
                self._has_sent_head = True
                return Head(self.image.head).encode()
            if self._wanted:
                return await self._blocks(self._wanted.popleft())
            if self._hasher is not None and not self._is_at_end and len(self._open) < self._ahead:
                message = await self._next_window(self._hasher)
                if message:
                    return message
            elif self._is_at_end and not self._open:
                self._has_sent_end = True
                return EndMessage(self._size, self._digest.hexdigest()).encode()
            else:
                await self._news.wait()
                self._news = trio.Event()
        return b""

    async def send_all(self, data: bytes, /) -> None:
        """Take what the exporter answers. Raises MessageError."""
        for message in self._reader.feed(data):
            match message:
                case BeginMessage() if self._hasher is None:
                    self._hasher = BlockHasher(message.key, message.layout)
                    self._ahead = message.ahead
                case WantedMessage():
                    self._take(message)
                case _:
                    raise MessageError(
                        "the exporter sent a message that only clients send; update the exporter"
                    )
        self._news.set()
        await trio.lowlevel.checkpoint()

    def _take(self, wanted: WantedMessage) -> None:
        data = self._open.get(wanted.window)
        if data is None or any(other.window == wanted.window for other in self._wanted):
            raise MessageError(
                "the exporter asks for a window twice, or for an unknown one; update the exporter"
            )
        if self._hasher is None or wanted.mask & ~self._hasher.layout.everything(len(data)):
            raise MessageError("the exporter asks for blocks behind a window's end; update the exporter")
        if wanted.mask:
            self._wanted.append(wanted)
        else:
            del self._open[wanted.window]

    async def _blocks(self, wanted: WantedMessage) -> bytes:
        assert self._hasher is not None  # a window was answered
        layout, data = self._hasher.layout, memoryview(self._open[wanted.window])

        def pack() -> bytes:
            pieces = [data[at : at + count] for at, count in layout.runs(wanted.mask, len(data))]
            return Blocks.of(wanted.window, b"".join(pieces)).encode()

        message = await trio.to_thread.run_sync(pack)
        del self._open[wanted.window]
        return message

    async def _next_window(self, hasher: BlockHasher) -> bytes:
        """The hashes of the image's next window; empty where nothing of it matters, and at the end."""
        layout = hasher.layout

        def look() -> tuple[int, bytes]:
            everything = layout.everything(len(data))
            mapped = everything if self._checker is None else self._checker.feed(data, layout.block_bytes)
            if mapped == everything:
                return mapped, hasher.hash(data)
            view = memoryview(data)
            pieces = [view[at : at + count] for at, count in layout.runs(mapped, len(data))]
            return mapped, hasher.hash(b"".join(pieces))

        # A read of a pipe may stall for ever, and Ctrl-C must not wait for it.
        data = await trio.to_thread.run_sync(self._read, layout.window_bytes, abandon_on_cancel=True)
        async with together() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, self._digest.update, data)
            mapped, digests = await trio.to_thread.run_sync(look)
        window = WindowHashes(self._size // layout.window_bytes, len(data), mapped, digests)
        self._size += len(data)
        self._is_at_end = len(data) < layout.window_bytes
        if self._is_at_end and self._map is not None:
            self._map.check_size(self._size)
        if not mapped:
            return b""
        self._open[window.index] = data
        return encode_hashes(window, layout)

    def _read(self, count: int) -> bytes:
        pieces: list[bytes] = []
        while count and (piece := self.image.read(count)):
            pieces.append(piece)
            count -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def aclose(self) -> None:
        """Do nothing: the caller that opened the file closes it."""
        await trio.lowlevel.checkpoint()
