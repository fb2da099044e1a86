"""The medium of a storage during one session: its known content, and the hold that keeps it valid."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from jumpstarter_drivers.storage.blocks import StorageDevice, StorageError
from jumpstarter_drivers.storage.changes.hold import MediumHold
from jumpstarter_drivers.storage.changes.knowledge import MediumKnowledge, WriteEvidence
from jumpstarter_drivers.storage.changes.layout import KEY_BYTES, BlockHasher, Layout

__all__ = ["Medium"]


class Medium:
    """The medium of one storage. The key of its hashes has the same lifetime as the knowledge."""

    def __init__(self, layout: Layout | None = None) -> None:
        self.hasher = BlockHasher(secrets.token_bytes(KEY_BYTES), layout or Layout())
        self.knowledge = MediumKnowledge()
        self._device: StorageDevice | None = None
        self._hold: MediumHold | None = None
        self._sectors_at_begin = 0

    @asynccontextmanager
    async def opened(self, device: StorageDevice, *, holds: bool) -> AsyncIterator[StorageDevice]:
        """Use the held device, if `device` has the same path and nobody else wrote; else open `device`.

        With `holds` it stays open and held when the block ended well, until `release`. Otherwise it is closed.
        """
        if not await self._is_held(device):
            await self.release()
            self._device = await device.__aenter__()
        opened = self._device
        assert opened is not None
        try:
            if holds and self._hold is None:
                self._hold = await opened.use(lambda fd: MediumHold(fd, opened.path))
            yield opened
        except BaseException:
            await self.release()
            raise
        if not holds:
            await self.release()

    async def _is_held(self, device: StorageDevice) -> bool:
        held = self._device
        if held is None or held.path != device.path:
            return False
        try:
            await held.check_identity()
            return self.knowledge.stands(await self._evidence(after_own_writes=False))
        except StorageError:
            return False

    async def confirm(self) -> None:
        """Begin a flash: forget what is known, unless nobody else can have written since the last one."""
        self.knowledge.confirm(await self._evidence(after_own_writes=False))
        self._sectors_at_begin = self._sectors_written()

    async def settle(self) -> None:
        """End a flash, when all written data is on the medium."""
        own_sectors = self._sectors_written() - self._sectors_at_begin
        self.knowledge.settle(await self._evidence(after_own_writes=True), own_sectors)

    def _sectors_written(self) -> int:
        return 0 if self._device is None else self._device.sectors_written

    async def _evidence(self, *, after_own_writes: bool) -> WriteEvidence | None:
        hold, device = self._hold, self._device
        if hold is None or device is None:
            return None
        return await device.use(lambda _fd: hold.evidence(after_own_writes=after_own_writes))

    async def release(self) -> None:
        """Release the medium, and forget its content. Bounded in time, and not cancelled."""
        self.knowledge.forget()
        hold, self._hold = self._hold, None
        device, self._device = self._device, None
        with trio.CancelScope(shield=True):
            if hold is not None:
                hold.release()
            if device is not None:
                await device.__aexit__(None, None, None)
