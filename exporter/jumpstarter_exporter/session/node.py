"""One device of a session: its slot, and the session's driver object.

The driver object is opened at the device's first use and closed when the session ends; its core is opened before (see
`devices.opening`). A device never disturbs its neighbours.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio

from jumpstarter_exporter import isolation
from jumpstarter_exporter.composite import Composite, Unavailable
from jumpstarter_exporter.decorators import Exported, exported
from jumpstarter_exporter.device_state import Lifecycle
from jumpstarter_exporter.devices.opening import CLOSE_SECONDS, Opening
from jumpstarter_exporter.devices.slot import Slot
from jumpstarter_exporter.driver import Driver
from jumpstarter_exporter.errors import DeviceFailed

__all__ = ["SessionNode"]

T = TypeVar("T")

_log = logging.getLogger(__name__)


class SessionNode:
    """A device in a session. Its parent is opened before it and closed after it."""

    def __init__(self, driver: Driver, name: str, parent: SessionNode | None, slot: Slot) -> None:
        self.driver = driver
        self.name = name
        self.parent = parent
        self.slot = slot
        self.path: str = slot.path
        """Names from the top, joined by dots; empty for the root."""
        self.children: dict[str, SessionNode] = {}
        self.methods: dict[str, Exported] = exported(type(driver))
        self.in_flight = 0
        """The number of calls and streams that use it now."""
        self._opening = Opening(
            driver,
            str(slot),
            slot.lifecycle,
            slot.lifecycle.driver,
            closings=slot.closings,
            before_close=self._shut_children,
            on_closed=self._closed,
            needed=slot.needed,
        )
        self._getting_ready = trio.Lock()
        self.was_used = False
        """Whether it has been opened."""
        slot.lend_to(driver)
        kind = type(driver)
        self._is_group = (
            isinstance(driver, Composite) and kind.open is Driver.open and kind.close is Driver.close
        )
        """Nothing has to be opened, so any number of sessions may use it."""
        driver.join(self.path, self.open)

    @property
    def lifecycle(self) -> Lifecycle:
        """Its state and reason."""
        return self.slot.lifecycle

    @property
    def is_open(self) -> bool:
        """Whether it can be used without being opened first."""
        core = self.slot.core
        return self._opening.is_open and (core is None or core.is_open)

    @property
    def opens_at_start(self) -> bool:
        """Whether its driver wants to be opened without waiting for a user."""
        try:
            with isolation.isolated("opens_at_start"):
                return self.driver.opens_at_start
        except Exception as error:  # any driver's property; its neighbours must be opened
            self.lifecycle.failed(str(error))
            return False

    def attach(self, nursery: trio.Nursery | None) -> None:
        """Use this nursery, which outlives every use, from now on."""
        self._opening.attach(nursery)
        self.driver.attach_session(nursery)

    @contextmanager
    def in_use(self) -> Iterator[Driver]:
        """Count a use of the open driver."""
        self.in_flight += 1
        try:
            yield self.driver
        finally:
            self.in_flight -= 1

    def check_usable(self) -> None:
        """DeviceFailed while some of its driver's code has not returned, or if it has no driver."""
        if self.lifecycle.is_stuck:
            raise DeviceFailed(f"{self}: {self.lifecycle.reason}")
        if isinstance(self.driver, Unavailable):  # perhaps in this session only, which the slot does not know
            raise DeviceFailed(f"{self}: {self.driver.reason}")

    async def run(self, what: str, body: Callable[[], Awaitable[T]], *, grace: float | None = None) -> T:
        """Run some of the driver's code; see `isolation.run`."""
        return await isolation.run(self.lifecycle, what, body, grace=grace)

    async def open(self) -> None:
        """Open it and its parents, unless they are open.

        Raises what the driver's `open` raises; the next use tries again.
        """
        self.check_usable()
        if (
            self.parent is not None
            and not self.parent.is_open
            and not isinstance(self.parent.driver, Unavailable)
        ):
            await self.parent.open()
        if self._is_group:
            return
        async with self._getting_ready:
            if self.is_open:
                return
            core = self.slot.core
            if core is not None and not core.is_open:
                await self._opening.shut()  # the core was opened again, so the driver's handles are invalid
                await core.open()
            self.slot.claim(self)
            try:
                await self._opening.open()
            except BaseException:
                if not self._opening.is_open:
                    self.slot.give_back(self)
                raise
            self.was_used = True

    def shut_soon(self, nursery: trio.Nursery) -> None:
        """Start a task in that nursery that runs `shut`. Its hardware is no longer needed at once."""
        self._opening.shut_soon(nursery)

    async def shut(self) -> None:
        """Close it after its children, unless it is closed. Returns when that is done."""
        await self._opening.shut()

    async def end_session(self) -> None:
        """Set the device as its configuration wants it between sessions, while its driver object is still open."""
        if not self.is_open or self.lifecycle.is_stuck or type(self.driver).end_session is Driver.end_session:
            return
        with trio.move_on_after(CLOSE_SECONDS, shield=True) as limit:
            try:
                await self.run("end_session()", self.driver.end_session)
            except Exception as error:  # any driver's code; its neighbours must be set, too
                _log.warning("%s was not left as configured: %s", self, error)
        if limit.cancelled_caught:
            _log.warning("%s was not left as configured within %g s", self, CLOSE_SECONDS)

    async def _shut_children(self) -> None:
        async with trio.open_nursery() as nursery:
            for child in self.children.values():
                nursery.start_soon(child.shut)

    def _closed(self) -> None:
        self.slot.give_back(self)

    def __str__(self) -> str:
        return str(self.slot)
