"""The exporter's end of a flash of changes: the plan, carried out between a client's stream and the device."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TypeVar

import trio
from jumpstarter_exporter.driver import Sink, Source
from jumpstarter_exporter.threads import DeviceThreads
from jumpstarter_proto.images import Content, identify

from jumpstarter_drivers.storage.blocks import Device, NoSpace, VerifyFailed
from jumpstarter_drivers.storage.changes.layout import WindowHashes
from jumpstarter_drivers.storage.changes.medium import Medium
from jumpstarter_drivers.storage.changes.messages import (
    Begin,
    Blocks,
    End,
    Head,
    Message,
    MessageError,
    MessageReader,
    Wanted,
)
from jumpstarter_drivers.storage.changes.plan import Answer, FlashPlan, Read, WrittenWindow
from jumpstarter_drivers.storage.content import in_device_thread
from jumpstarter_drivers.storage.tasks import together

__all__ = ["ChangeReceiver", "PlannedFlash"]

AHEAD = 8
"""Windows that the client may have open: 32 MiB of its memory, and half a second of a card's reading."""
_READERS = 2
"""Windows that are read at a time: the next one while one is hashed."""

T = TypeVar("T")


class PlannedFlash:
    """One flash by a plan: `write` what differs, then `verify` what was written once it is flushed."""

    def __init__(self, medium: Medium, threads: DeviceThreads) -> None:
        self._medium = medium
        self._threads = threads
        self._plan: FlashPlan | None = None
        self.sha256 = ""
        """Of the whole image; known after `write`."""

    async def write(
        self,
        device: Device,
        *,
        limit: int | None,
        begin_write: Callable[[], Awaitable[None]],
        progress: Callable[[FlashPlan], None],
    ) -> FlashPlan:
        """Write what differs; `begin_write` comes before each write. Raises what is wrong with device or image.

        A cancel or error leaves blocks written and others not.
        """

        def too_large(size: int) -> NoSpace:
            return NoSpace(
                f"the image is larger than the {limit} bytes that {device.path} takes, it has at least {size}; "
                "use a smaller image or a larger card"
            )

        await self._medium.confirm()
        plan = FlashPlan(
            self._medium.hasher, self._medium.knowledge, limit=limit, ahead=AHEAD, too_large=too_large
        )
        self._plan = plan
        await device.forget()
        await self._carry_out(plan, device, begin_write, progress)
        assert plan.size is not None
        await device.set_length(plan.size)
        return plan

    async def _carry_out(
        self,
        plan: FlashPlan,
        device: Device,
        begin_write: Callable[[], Awaitable[None]],
        progress: Callable[[FlashPlan], None],
    ) -> None:
        raise NotImplementedError

    def remarks(self) -> list[str]:
        """At the end: what of the image was left out, as far as it is known here."""
        return []

    async def verify(self, device: Device, progress: Callable[[int], None]) -> None:
        """Read back what was written, which is flushed, and compare. Raises VerifyFailed."""
        plan, done = self._begun, 0
        await device.forget()
        for window in plan.verify_steps():
            found = await self._hashes(device, window)
            if not plan.verified(window, found):
                raise VerifyFailed(
                    f"what {device.path} gives back is not what was written; "
                    "flash again, and replace the card if it repeats"
                )
            done += plan.layout.size_of(window.mask, window.length)
            progress(done)

    def counts(self) -> dict[str, int]:
        """For users: what was read, skipped, unmapped and written."""
        counts = asdict(self._begun.counts)
        del counts["done"]
        return counts

    @property
    def _begun(self) -> FlashPlan:
        assert self._plan is not None, "write comes first"
        return self._plan

    async def _write_zeros(self, plan: FlashPlan, device: Device, answer: Answer) -> None:
        zeros = memoryview(bytes(plan.layout.window_bytes))
        await device.write_pieces(
            [(offset, zeros[:length]) for offset, length in plan.places_of_zeros(answer)]
        )

    async def _hashes(self, device: Device, window: WindowHashes | WrittenWindow) -> bytes:
        layout = self._medium.hasher.layout
        mask = window.mapped if isinstance(window, WindowHashes) else window.mask
        start = window.index * layout.window_bytes
        places = [(start + offset, count) for offset, count in layout.runs(mask, window.length)]
        data = await device.read_pieces(places, damaged_is_nothing=isinstance(window, WindowHashes))
        return await in_device_thread(self._threads, self._medium.hasher.hash, data)


class ChangeReceiver(PlannedFlash):
    """An image at a client that hashes it. `start` comes first."""

    def __init__(self, source: Source, sink: Sink, medium: Medium, threads: DeviceThreads) -> None:
        super().__init__(medium, threads)
        self._sink = sink
        self._reader = MessageReader(medium.hasher.layout)
        self._chunks = aiter(source)
        self._messages: deque[Message] = deque()
        self._news = trio.Event()

    async def start(self) -> Content:
        """Tell the client how to hash; what the image is. Raises ContentError."""
        hasher = self._medium.hasher
        await self._sink.send_all(Begin(hasher.layout, AHEAD, hasher.key).encode())
        message = await self._next_message()
        if not isinstance(message, Head):
            raise MessageError("the client does not begin with the image's head; update the client")
        return identify(message.data)

    async def _carry_out(
        self,
        plan: FlashPlan,
        device: Device,
        begin_write: Callable[[], Awaitable[None]],
        progress: Callable[[FlashPlan], None],
    ) -> None:
        async with together() as nursery:
            nursery.start_soon(self._answer_all, plan, device, begin_write, progress)
            await self._take_all(plan, device, begin_write, progress)

    async def _next_message(self) -> Message | None:
        while not self._messages:
            chunk = await anext(self._chunks, b"")
            if not chunk:
                return None
            self._messages.extend(self._reader.feed(chunk))
        return self._messages.popleft()

    async def _take_all(
        self,
        plan: FlashPlan,
        device: Device,
        begin_write: Callable[[], Awaitable[None]],
        progress: Callable[[FlashPlan], None],
    ) -> None:
        while True:
            match message := await self._next_message():
                case WindowHashes():
                    plan.announce(message)
                    self._wake()
                case Blocks():
                    await self._put(message, plan, device, begin_write)
                    progress(plan)
                case End():
                    plan.end(message.size)
                    self.sha256 = message.sha256
                    self._wake()
                    return
                case None:
                    raise MessageError("the client ended in the middle of the image; flash again")
                case _:
                    raise MessageError("the client sends what only an exporter sends; update the client")

    async def _put(
        self, message: Blocks, plan: FlashPlan, device: Device, begin_write: Callable[[], Awaitable[None]]
    ) -> None:
        length = plan.asked_bytes(message.window)

        def look() -> tuple[bytes, bytes]:
            data = message.unpacked(length)
            return data, self._medium.hasher.hash(data)

        data, digests = await in_device_thread(self._threads, look)
        view = memoryview(data)
        places = plan.arrived(message.window, digests)
        pieces = [(offset, view[taken : taken + count]) for offset, taken, count in places]
        await begin_write()
        await device.write_pieces(pieces)
        plan.written(message.window)

    async def _answer_all(
        self,
        plan: FlashPlan,
        device: Device,
        begin_write: Callable[[], Awaitable[None]],
        progress: Callable[[FlashPlan], None],
    ) -> None:
        reading = trio.CapacityLimiter(_READERS)
        sending = trio.Lock()

        async def answer(answer: Answer) -> None:
            window = answer.window
            if answer.zeros:
                await begin_write()
                await self._write_zeros(plan, device, answer)
                if not answer.wanted:
                    plan.written(window.index)
            wanted = Wanted(window.index, answer.wanted).encode(window.length, plan.layout)
            async with sending:
                await self._sink.send_all(wanted)
            progress(plan)

        async def read(window: WindowHashes) -> None:
            async with _released(reading, window):
                found = await self._hashes(device, window)
                await answer(plan.read(window.index, found))

        async with together() as nursery:
            while plan.size is None:
                match plan.next_step():
                    case Read(window):
                        await reading.acquire_on_behalf_of(window)
                        nursery.start_soon(read, window)
                    case Answer() as step:
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
