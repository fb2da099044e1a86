"""The exporter's end of a flash of changes: the plan, carried out between a client's stream and the device."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from jumpstarter_exporter.driver import Sink, Source
from jumpstarter_exporter.threads import DeviceThreads
from jumpstarter_proto.images import Content, identify

from jumpstarter_drivers.storage.changes.layout import WindowHashes
from jumpstarter_drivers.storage.changes.medium import Medium
from jumpstarter_drivers.storage.changes.messages import (
    BeginMessage,
    Blocks,
    EndMessage,
    FlashMessageReader,
    Head,
    Message,
    MessageError,
    WantedMessage,
)
from jumpstarter_drivers.storage.changes.plan import Read, WindowAnswer
from jumpstarter_drivers.storage.changes.planned import MAX_OPEN_WINDOWS, PlannedFlash, Writing
from jumpstarter_drivers.storage.content import in_device_thread
from jumpstarter_drivers.storage.tasks import together

__all__ = ["ChangeReceiver"]

_MAX_WINDOWS_READ = 2
"""Windows that are read at a time: the next one while one is hashed."""


class ChangeReceiver(PlannedFlash):
    """An image at a client that hashes it. `start` comes first."""

    def __init__(self, source: Source, sink: Sink, medium: Medium, threads: DeviceThreads) -> None:
        super().__init__(medium, threads)
        self._sink = sink
        self._reader = FlashMessageReader(medium.hasher.layout)
        self._chunks = aiter(source)
        self._messages: deque[Message] = deque()
        self._news = trio.Event()

    async def start(self) -> Content:
        """Tell the client how to hash; what the image is. Raises ContentError."""
        hasher = self._medium.hasher
        await self._sink.send_all(BeginMessage(hasher.layout, MAX_OPEN_WINDOWS, hasher.key).encode())
        message = await self._next_message()
        if not isinstance(message, Head):
            raise MessageError("the client does not begin with the image's head; update the client")
        return identify(message.data)

    async def _carry_out(self, writing: Writing) -> None:
        async with together() as nursery:
            nursery.start_soon(self._answer_all, writing)
            await self._take_all(writing)

    async def _next_message(self) -> Message | None:
        while not self._messages:
            chunk = await anext(self._chunks, b"")
            if not chunk:
                return None
            self._messages.extend(self._reader.feed(chunk))
        return self._messages.popleft()

    async def _take_all(self, writing: Writing) -> None:
        plan = writing.plan
        while True:
            match message := await self._next_message():
                case WindowHashes():
                    plan.announce(message)
                    self._wake()
                case Blocks():
                    await self._put(message, writing)
                    writing.progress(plan)
                case EndMessage():
                    plan.end(message.size)
                    self._wake()
                    return
                case None:
                    raise MessageError("the client ended in the middle of the image; flash again")
                case _:
                    raise MessageError(
                        "the client sent a message that only exporters send; update the client"
                    )

    async def _put(self, message: Blocks, writing: Writing) -> None:
        plan = writing.plan
        length = plan.asked_bytes(message.window)

        def look() -> tuple[bytes, bytes]:
            data = message.unpacked(length)
            return data, self._medium.hasher.hash(data)

        data, digests = await in_device_thread(self._threads, look)
        view = memoryview(data)
        places = plan.arrived(message.window, digests)
        pieces = [(offset, view[taken : taken + count]) for offset, taken, count in places]
        await writing.begin_write()
        await writing.device.write_pieces(pieces)
        plan.written(message.window)

    async def _answer_all(self, writing: Writing) -> None:
        plan = writing.plan
        reading = trio.CapacityLimiter(_MAX_WINDOWS_READ)
        sending = trio.Lock()

        async def answer(answer: WindowAnswer) -> None:
            window = answer.window
            if answer.zeros:
                await writing.begin_write()
                await self._write_zeros(writing, answer)
                if not answer.wanted:
                    plan.written(window.index)
            wanted = WantedMessage(window.index, answer.wanted).encode(window.length, plan.layout)
            async with sending:
                await self._sink.send_all(wanted)
            writing.progress(plan)

        async def read(window: WindowHashes) -> None:
            async with _released(reading, window):
                found = await self._hashes(writing.device, window)
                await answer(plan.read(window.index, found))

        async with together() as nursery:
            while plan.size is None:
                match plan.next_step():
                    case Read(window):
                        await reading.acquire_on_behalf_of(window)
                        nursery.start_soon(read, window)
                    case WindowAnswer() as step:
                        await answer(step)
                    case None:
                        news = self._news
                        await news.wait()

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()


@asynccontextmanager
async def _released(limiter: trio.CapacityLimiter, borrower: object) -> AsyncIterator[None]:
    try:
        yield
    finally:
        limiter.release_on_behalf_of(borrower)
