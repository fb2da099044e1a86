"""One device in the tree: a driver with a path, opened at its first use and closed when the session ends.

A node that fails closes its driver and starts anew at its next use. It never disturbs its neighbours:
whatever its driver raises ends here, as a state with a reason and as an error to the caller whose call it
was; what its driver never ends is left (see `guests`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio
from jumpstarter_proto.errors import JumpstarterUsageError

from jumpstarter_exporter import guests
from jumpstarter_exporter.composite import Composite, Unavailable
from jumpstarter_exporter.devices.slot import Slot
from jumpstarter_exporter.devices.state import Lifecycle, State
from jumpstarter_exporter.driver import Driver
from jumpstarter_exporter.errors import DeviceFailed, DeviceMissing, single
from jumpstarter_exporter.markers import Exported, exported

__all__ = ["CLOSE_SECONDS", "OPEN_SECONDS", "Node"]

OPEN_SECONDS = 60.0
"""A driver that has not acquired its hardware by then has failed."""
CLOSE_SECONDS = 10.0
"""A driver that has not released its hardware by then is left to itself."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Node:
    """A device. Its parent is opened before it and closed after it."""

    def __init__(self, driver: Driver, name: str, parent: Node | None, slot: Slot) -> None:
        self.driver = driver
        self.name = name
        self.parent = parent
        self.slot = slot
        self.path: str = slot.path
        """Names from the top, joined by dots; empty for the root."""
        self.children: dict[str, Node] = {}
        self.methods: dict[str, Exported] = exported(type(driver))
        self.in_flight = 0
        """Calls and streams that use it now."""
        self._nursery: trio.Nursery | None = None
        self._opening = trio.Lock()
        self._scope: trio.CancelScope | None = None
        self._ended = trio.Event()
        self._is_open = False
        self._is_left_opening = False
        """Its driver's `open` was given up and has not come back."""
        slot.lend_to(driver)
        kind = type(driver)
        self._is_group = (
            isinstance(driver, Composite) and kind.open is Driver.open and kind.close is Driver.close
        )
        """There is nothing to open, so any number of sessions may have it."""
        driver.join(self.path, self.open)

    @property
    def life(self) -> Lifecycle:
        """Its state and reason."""
        return self.slot.life

    @property
    def is_open(self) -> bool:
        """Whether it can be used without being opened first."""
        return self._is_open and self.life.condition is not State.FAILED

    @property
    def opens_at_start(self) -> bool:
        """Whether its driver wants to be opened without waiting for a user."""
        try:
            with guests.contained("opens_at_start"):
                return self.driver.opens_at_start
        except Exception as error:  # any driver's property; its neighbours must be opened
            self.life.failed(str(error))
            return False

    def attach(self, nursery: trio.Nursery | None) -> None:
        """Live in this nursery from now on; it outlives every use."""
        self._nursery = nursery

    @contextmanager
    def in_use(self) -> Iterator[Driver]:
        """Count a use of the open driver."""
        self.in_flight += 1
        try:
            yield self.driver
        finally:
            self.in_flight -= 1

    def check_usable(self) -> None:
        """DeviceFailed while some of its driver's code has not come back, or if it has none."""
        if self.life.is_stuck or isinstance(self.driver, Unavailable):
            raise DeviceFailed(f"{self}: {self.life.reason}")

    async def run(self, what: str, body: Callable[[], Awaitable[T]], *, grace: float | None = None) -> T:
        """Run some of the driver's code; see `guests.run`."""
        return await guests.run(self.life, what, body, grace=grace)

    async def open(self) -> None:
        """Open it, unless it is open, and what it is a part of before.

        Raises what the driver's `open` raises, after which the next use tries again.
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
        async with self._opening:
            if self.is_open:
                return
            if self._nursery is None:
                raise JumpstarterUsageError("a device can be opened only inside of its session")
            self.slot.claim(self)
            await self.shut()
            await self._nursery.start(self._live)

    async def shut(self) -> None:
        """Close it, unless it is closed, and its children before; returns when that is done."""
        if self._scope is not None:
            self._scope.cancel()
            await self._ended.wait()

    async def _live(self, *, task_status: trio.TaskStatus[None]) -> None:
        """From open to close. Never raises once it is open: this is a task's outermost edge."""
        failure: Exception | None = None
        started = False
        self._ended = trio.Event()
        self._scope = trio.CancelScope()
        self._is_left_opening = False
        try:
            async with trio.open_nursery() as nursery:
                self.driver.attach(await nursery.start(self._background))
                try:
                    with self._scope:
                        await self._open_driver()
                        started = self._is_open = True
                        task_status.started()
                        await trio.sleep_forever()
                except Exception as error:  # any driver's open; becomes its state, and goes on
                    failure = error
                finally:
                    self._is_open = False
                    await self._close_driver()
                nursery.cancel_scope.cancel()
        except Exception as error:  # any driver's background tasks; becomes its state
            failure = single(error)
            _log.debug("%s: a background task failed", self, exc_info=error)
        finally:
            self.driver.attach(None)
            self._scope = None
            self._settle(failure)
            self.slot.give_back(self)
            self._ended.set()
        if not started:
            raise failure or DeviceFailed(f"{self} was closed while it was being opened; try again")

    async def _background(self, *, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """The driver's own tasks. When one fails, so does this."""

        async def live() -> None:
            async with trio.open_nursery() as background:
                task_status.started(background)
                await trio.sleep_forever()

        await self.run("a background task", live)

    async def _open_driver(self) -> None:
        def left() -> None:
            self._is_left_opening = True

        self.life.starting()
        try:
            with trio.fail_after(OPEN_SECONDS):
                # What opens in the end, though nobody waits for it any more, is closed again.
                await guests.run(
                    self.life, "open()", self.driver.open, on_left=left, afterwards=self.driver.close
                )
        except trio.TooSlowError:
            raise DeviceFailed(
                f"{self} did not open within {OPEN_SECONDS:g} s; check its hardware and try again"
            ) from None
        self.life.driver.started()

    async def _close_driver(self) -> None:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for child in self.children.values():
                    nursery.start_soon(child.shut)
            if self._is_left_opening:
                return
            with trio.move_on_after(CLOSE_SECONDS) as limit:
                try:
                    await self.run("close()", self.driver.close)
                except Exception as error:  # any driver's close; its neighbours must close too
                    _log.warning("%s did not close well: %s", self, error, exc_info=_if_debugging())
            if limit.cancelled_caught:
                _log.warning(
                    "%s did not close within %g s; its hardware may still be held", self, CLOSE_SECONDS
                )

    def _settle(self, failure: Exception | None) -> None:
        if failure is None:
            self.life.closed()
        elif isinstance(failure, DeviceMissing):
            self.life.driver.closed(missing=str(failure))
        else:
            self.life.failed(str(failure) or type(failure).__name__)

    def __str__(self) -> str:
        return str(self.slot)


def _if_debugging() -> bool:
    return _log.isEnabledFor(logging.DEBUG)
