"""The cores of a board's devices: opened when they are needed, reset after sessions, closed with the exporter."""

from __future__ import annotations

import contextvars
import logging
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import trio

from jumpstarter_exporter import isolation
from jumpstarter_exporter.devices.changes import subscribed
from jumpstarter_exporter.devices.opening import CLOSE_SECONDS, Opening

if TYPE_CHECKING:
    from jumpstarter_exporter.core import Core
    from jumpstarter_exporter.devices.inventory import BoardDevices
    from jumpstarter_exporter.devices.slot import Slot

__all__ = ["SlotCore", "keep_open", "keeping_open", "managed_cores"]

FIRST_RETRY_SECONDS = 1.0
MAX_RETRY_SECONDS = 30.0
"""Seconds between attempts to open a device that should be open; doubled after each failure."""

_log = logging.getLogger(__name__)


class SlotCore:
    """A slot's core, which knows the cores above and below."""

    def __init__(self, slot: Slot, core: Core[Any], above: SlotCore | None) -> None:
        self.slot = slot
        self.core = core
        self.above = above
        self.below: dict[str, SlotCore] = {}
        """The cores of the slots directly below, by name."""
        self.opening = Opening(
            core,
            str(slot),
            slot.lifecycle,
            slot.lifecycle.core,
            closings=slot.closings,
            before_close=self._shut_below,
            needed=slot.needed,
        )
        core.join(self)
        if above is not None and slot.parent is above.slot:
            above.below[slot.name] = self
        self.dependents: list[SlotCore] = []
        """The cores whose nearest core above is this one."""
        if above is not None:
            above.dependents.append(self)

    @property
    def is_open(self) -> bool:
        """Whether it can be used without being opened first."""
        return self.opening.is_open

    @property
    def opens_at_start(self) -> bool:
        """Whether it wants to be opened without waiting for a user."""
        try:
            with isolation.isolated("opens_at_start"):
                return self.core.opens_at_start
        except Exception as error:  # any driver's property; its neighbours must be opened
            self.slot.lifecycle.core.failed(str(error))
            return False

    async def open(self) -> None:
        """Open the cores above and this one, unless they are open. Raises what its `open` raises."""
        if self.is_open:
            return
        if self.above is not None:
            await self.above.open()
        await self.opening.open()

    async def restore(self) -> None:
        """Reset it to its configuration if it is open. If that fails, it is opened again at its next use."""
        if not self.is_open or self.slot.lifecycle.is_stuck:
            return
        with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_SECONDS) as limit:
            try:
                await self.opening.run("restore()", self.core.restore)
            except Exception as error:  # any driver's code; its neighbours must be reset, too
                _log.warning("%s was not reset: %s", self.slot, error)
                self.slot.lifecycle.core.failed(f"it was not reset to its configuration: {error}")
        if limit.cancelled_caught:
            self.slot.lifecycle.core.failed("it was not reset to its configuration in time")

    async def _shut_below(self) -> None:
        async with trio.open_nursery() as nursery:
            for one in self.dependents:
                nursery.start_soon(one.opening.shut)


@asynccontextmanager
async def managed_cores(devices: BoardDevices) -> AsyncIterator[None]:
    """Allow cores to be opened in the block, and close all of them at its end: shielded, with a time limit for each.

    Their code runs in the context of this call, because cores outlive sessions.
    """
    async with trio.open_nursery() as nursery:
        devices.attach(nursery, contextvars.copy_context())
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):
                # Concurrently: one that hangs does not delay the others. Each waits for those below it.
                async with trio.open_nursery() as closing:
                    for slot in devices.slots.values():
                        if slot.core is not None:
                            closing.start_soon(slot.core.opening.shut)
            devices.attach(None)
        nursery.cancel_scope.cancel()


async def keeping_open(devices: BoardDevices) -> None:
    """Open cores that want it without waiting for a user, and again after a failure, until cancelled."""

    def wanted() -> list[SlotCore]:
        cores = [slot.core for slot in devices.slots.values()]
        return [core for core in cores if core is not None and core.opens_at_start]

    await keep_open(devices, wanted)


class _Openable(Protocol):
    """A core, or a session's node."""

    @property
    def slot(self) -> Slot: ...
    @property
    def is_open(self) -> bool: ...
    async def open(self) -> None: ...


async def keep_open(devices: BoardDevices, wanted: Callable[[], Sequence[_Openable]]) -> None:
    """Keep devices open that want it, also those that the board gets later, until cancelled."""
    kept: dict[_Openable, _Kept] = {}

    async with trio.open_nursery() as nursery:

        def follow() -> None:
            now = wanted()
            for one in [one for one in kept if one not in now]:
                kept.pop(one).scope.cancel()
            for one in now:
                if one not in kept:
                    kept[one] = _Kept(one)
                    nursery.start_soon(kept[one].keep)

        follow()
        devices.arranged.append(follow)
        try:
            with subscribed(devices) as changes:
                async for _ in changes:
                    for each in kept.values():
                        each.look()
        finally:
            devices.arranged.remove(follow)


class _Kept:
    """One device that is kept open."""

    def __init__(self, one: _Openable) -> None:
        self.scope = trio.CancelScope()
        self._one = one
        self._closed = trio.Event()

    def look(self) -> None:
        """The state has changed: wake the task if the device is no longer open."""
        if not self._one.is_open:
            self._closed.set()

    async def keep(self) -> None:
        """Open it, again and again when it is not open. While it is unplugged, wait."""
        pause, one = FIRST_RETRY_SECONDS, self._one
        with self.scope:
            while True:
                came = one.slot.came
                if not one.is_open and not one.slot.lifecycle.why_unplugged:
                    try:
                        await one.open()
                        pause = FIRST_RETRY_SECONDS
                    except Exception:  # whatever its driver raises has become its state and reason
                        pause = min(pause * 2, MAX_RETRY_SECONDS)
                self._closed = trio.Event()
                if one.is_open:
                    # A change of its state arrives with its end; the limit covers ends without one.
                    with trio.move_on_after(MAX_RETRY_SECONDS) as limit:
                        await self._closed.wait()
                    if not limit.cancelled_caught:
                        await trio.sleep(pause)
                    continue
                with trio.move_on_after(math.inf if one.slot.lifecycle.why_unplugged else pause):
                    await came.wait()
                    pause = FIRST_RETRY_SECONDS
