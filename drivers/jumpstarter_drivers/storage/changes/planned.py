"""Carries out a flash plan for any source of the image: reads, writes and reads back what the plan says."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

from jumpstarter_exporter.threads import DeviceThreads

from jumpstarter_drivers.storage.blocks import NoSpace, StorageDevice, VerifyFailed
from jumpstarter_drivers.storage.changes.layout import WindowHashes
from jumpstarter_drivers.storage.changes.medium import Medium
from jumpstarter_drivers.storage.changes.plan import FlashPlan, WindowAnswer, WrittenWindow
from jumpstarter_drivers.storage.content import in_device_thread

__all__ = ["PlannedFlash", "Writing"]

MAX_OPEN_WINDOWS = 8
"""Windows that the client may have open: 32 MiB of its memory, and half a second of a card's reading."""


@dataclass(frozen=True)
class Writing:
    """A plan that is being carried out on a device."""

    plan: FlashPlan
    device: StorageDevice
    begin_write: Callable[[], Awaitable[None]]
    """Comes before each write."""
    progress: Callable[[FlashPlan], None]


class PlannedFlash(ABC):
    """One flash by a plan: `write` what differs, then `verify` what was written once it is flushed."""

    def __init__(self, medium: Medium, threads: DeviceThreads) -> None:
        self._medium = medium
        self._threads = threads
        self._plan: FlashPlan | None = None
        self.sha256 = ""
        """SHA-256 of the whole image after `write`; empty if the exporter has not hashed all of it."""

    async def write(
        self,
        device: StorageDevice,
        *,
        limit: int | None,
        check_size: Callable[[int], None],
        begin_write: Callable[[], Awaitable[None]],
        progress: Callable[[FlashPlan], None],
    ) -> FlashPlan:
        """Write what differs; `begin_write` comes before each write. Raises what is wrong with device or image.

        `check_size` gets the image's size when it is known, before a file is cut to it or grown.

        A cancel or error leaves blocks written and others not.
        """

        def too_large(size: int) -> NoSpace:
            return NoSpace(
                f"the image is larger than the {limit} bytes that {device.path} takes, it has at least {size}; "
                "use a smaller image or a larger card"
            )

        await self._medium.confirm()
        plan = FlashPlan(
            self._medium.hasher,
            self._medium.knowledge,
            limit=limit,
            ahead=MAX_OPEN_WINDOWS,
            too_large=too_large,
        )
        self._plan = plan
        # What an earlier flash has left in the page cache is not on the medium yet, and would be read from there.
        await device.flush()
        await device.forget()
        await self._carry_out(Writing(plan, device, begin_write, progress))
        assert plan.size is not None
        check_size(plan.size)
        if await device.has_other_length(plan.size):
            await begin_write()
            self._medium.knowledge.forget_from(plan.size // plan.layout.window_bytes)
            await device.set_length(plan.size)
        return plan

    @abstractmethod
    async def _carry_out(self, writing: Writing) -> None:
        """Receive the image until the plan knows its size and all of it is written."""

    def remarks(self) -> list[str]:
        """At the end: what of the image was left out, as far as it is known here."""
        return []

    async def verify(self, device: StorageDevice, progress: Callable[[int], None]) -> None:
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
        """Return the bytes that were read, skipped, unmapped and written, for users."""
        counts = asdict(self._begun.counts)
        del counts["done"]
        return counts

    @property
    def _begun(self) -> FlashPlan:
        assert self._plan is not None, "write comes first"
        return self._plan

    async def _write_zeros(self, writing: Writing, answer: WindowAnswer) -> None:
        plan = writing.plan
        zeros = memoryview(bytes(plan.layout.window_bytes))
        await writing.device.write_pieces(
            [(offset, zeros[:length]) for offset, length in plan.places_of_zeros(answer)]
        )

    async def _hashes(self, device: StorageDevice, window: WindowHashes | WrittenWindow) -> bytes:
        layout = self._medium.hasher.layout
        mask = window.mapped if isinstance(window, WindowHashes) else window.mask
        start = window.index * layout.window_bytes
        places = [(start + offset, count) for offset, count in layout.runs(mask, window.length)]
        data = await device.read_pieces(places, damaged_is_nothing=isinstance(window, WindowHashes))
        return await in_device_thread(self._threads, self._medium.hasher.hash, data)
