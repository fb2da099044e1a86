"""Opens and closes what a driver's author wrote, a driver object or a core, and turns what comes of it into its state.

It is opened at its first use, in a nursery that outlives its users. What fails is closed and starts anew at its next
use. Whatever its code raises ends here, as a state with a reason and as an error to the caller whose call it was; what
its code never ends is left (see `guests`).
"""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Protocol

import trio
from jumpstarter_proto.errors import JumpstarterUsageError
from jumpstarter_proto.tasks import single

from jumpstarter_exporter import guests
from jumpstarter_exporter.devices.state import Layer, Lifecycle
from jumpstarter_exporter.errors import DeviceBusy, DeviceFailed, DeviceMissing

__all__ = ["CLOSE_SECONDS", "HANDOVER_SECONDS", "OPEN_SECONDS", "Closings", "Opening"]

OPEN_SECONDS = 60.0
"""A driver that has not acquired its hardware by then has failed."""
CLOSE_SECONDS = 10.0
"""A driver that has not released its hardware by then is left to itself."""
HANDOVER_SECONDS = CLOSE_SECONDS + 5
"""Hardware that is busy is tried again for so long, while other devices of this process are being closed."""

_log = logging.getLogger(__name__)


class Guest(Protocol):
    """What is opened and closed."""

    @property
    def waits_for_hardware(self) -> bool: ...
    async def open(self) -> None: ...
    async def close(self) -> None: ...
    def attach(self, nursery: trio.Nursery | None) -> None: ...


class Closings:
    """Which devices of this process are being closed, for whoever finds its hardware busy. In one trio loop."""

    def __init__(self) -> None:
        self.ended = trio.Event()
        """Set when the next one has ended, and replaced by a new one then."""
        self._names: list[str] = []

    @property
    def are_under_way(self) -> bool:
        """Whether hardware is about to be released."""
        return bool(self._names)

    @property
    def names(self) -> list[str]:
        """The devices, each once. For another thread, too."""
        return sorted({name for name in tuple(self._names) if name})

    @contextmanager
    def under_way(self, name: str = "") -> Iterator[None]:
        """At the end of the block some hardware may have been released: of the device of that name, if it has one."""
        self._names.append(name)
        try:
            yield
        finally:
            self._names.remove(name)
            self.ended.set()
            self.ended = trio.Event()


class Opening:
    """Opens one guest, one caller at a time, and closes it. `layer` of `life` is its state."""

    def __init__(
        self,
        guest: Guest,
        name: str,
        life: Lifecycle,
        layer: Layer,
        *,
        closings: Closings,
        before_close: Callable[[], Awaitable[None]],
        on_closed: Callable[[], None] = lambda: None,
        needed: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`before_close` closes what uses the guest; it and `on_closed` are called at each close and never raise.

        `closings` are those of all devices that may have the same hardware. In a block of `needed` is what ends when
        the hardware is unplugged.
        """
        self._guest = guest
        self._name = name
        self._life = life
        self._layer = layer
        self._closings = closings
        self._before_close = before_close
        self._on_closed = on_closed
        self._needed = needed
        self._nursery: trio.Nursery | None = None
        self._context: contextvars.Context | None = None
        self._opening = trio.Lock()
        self._scope: trio.CancelScope | None = None
        self._waiting: trio.CancelScope | None = None
        """For hardware that is busy."""
        self._ended = trio.Event()
        self._is_open = False
        self._is_left_opening = False
        """Its `open` was given up and has not come back."""
        self._is_retired = False

    @property
    def is_open(self) -> bool:
        """Whether it can be used without being opened first."""
        return self._is_open and self._layer.is_open

    def attach(self, nursery: trio.Nursery | None, context: contextvars.Context | None = None) -> None:
        """Live in this nursery from now on; it outlives every use. `context` is its code's, else its callers'."""
        self._nursery = nursery
        self._context = context

    async def open(self) -> None:
        """Open it, unless it is open. Raises what its `open` raises, after which the next use tries again.

        Hardware that is busy while other devices are being closed is waited for, `HANDOVER_SECONDS` at most. What is
        unplugged meanwhile is not opened any further, unless its code waits for hardware itself: DeviceMissing.
        """
        async with self._opening:
            if self.is_open:
                return
            if self._is_retired:  # while this waited for its turn
                raise self._closed_early()
            if (why := self._life.why_unplugged) and not self._guest.waits_for_hardware:
                raise DeviceMissing(f"{self._name} is not there: {why}")
            await self.shut()
            deadline = trio.current_time() + HANDOVER_SECONDS
            with nullcontext() if self._guest.waits_for_hardware else self._needed():
                while not await self._try_open(deadline):
                    pass

    async def _try_open(self, deadline: float) -> bool:
        """False if its hardware was busy, and some has been released since. Raises what its `open` raises."""
        if self._nursery is None:  # the session may have begun to end meanwhile
            raise JumpstarterUsageError("a device can be opened only inside of its session")
        ended = self._closings.ended
        try:
            await self._nursery.start(self._live)
            return True
        except DeviceBusy as error:
            busy = error
        again = False
        failure: Exception | None = None
        try:
            again = await self._until_released(ended, deadline)
            failure = busy
        finally:
            if not again:
                self._settle(failure)
                self._on_closed()
        if not again:
            raise busy
        return False

    async def _until_released(self, ended: trio.Event, deadline: float) -> bool:
        """Wait for the next closing, if there is one; whether it has ended.

        Raises DeviceFailed if this is closed meanwhile.
        """
        if not ended.is_set() and not self._closings.are_under_way:
            return False
        with trio.CancelScope() as waiting, trio.move_on_at(deadline) as limit:
            self._waiting = waiting
            try:
                await ended.wait()
            finally:
                self._waiting = None
        if waiting.cancelled_caught or self._nursery is None:
            raise self._closed_early()
        return not limit.cancelled_caught

    def retire(self, nursery: trio.Nursery) -> None:
        """It is no device any more: it is shut in that nursery, and nobody opens it again."""
        self._is_retired = True
        self.shut_soon(nursery)

    def shut_soon(self, nursery: trio.Nursery) -> None:
        """Have a task in that nursery `shut` it. From now on its hardware is waited for."""
        closing = ExitStack()
        closing.enter_context(self._closings.under_way())

        async def shut() -> None:
            with closing:
                await self.shut()

        nursery.start_soon(shut)

    async def shut(self) -> None:
        """Close it, unless it is closed, and what uses it before; returns when that is done."""
        if self._waiting is not None:
            self._waiting.cancel()
        if self._scope is not None:
            with self._closings.under_way(self._name):
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
                self._guest.attach(await nursery.start(self._background))
                try:
                    with self._scope:
                        await self._open_guest()
                        started = self._is_open = True
                        task_status.started()
                        await trio.sleep_forever()
                except Exception as error:  # any driver's open; becomes its state, and goes on
                    failure = error
                finally:
                    self._is_open = False
                    await self._close_guest()
                nursery.cancel_scope.cancel()
        except Exception as error:  # any driver's background tasks; becomes its state
            failure = single(error)
            _log.debug("%s: a background task failed", self._name, exc_info=error)
        finally:
            self._scope = None
            try:
                self._take_nursery()
                if started or not isinstance(failure, DeviceBusy):  # else that is decided by who opens it
                    self._settle(failure)
                    self._on_closed()
            finally:
                self._ended.set()  # whoever waits for that is shielded
        if not started:
            raise failure or self._closed_early()

    def _closed_early(self) -> DeviceFailed:
        if self._is_retired:
            return DeviceFailed(
                f"{self._name} is no device of this board any more; see what it has: jumpstarter devices"
            )
        return DeviceFailed(f"{self._name} was closed while it was being opened; try again")

    def _take_nursery(self) -> None:
        try:
            with guests.contained("attach()"):
                self._guest.attach(None)
        except Exception as error:  # any driver's attach; it is closed all the same
            _log.warning("%s did not close well: %s", self._name, error, exc_info=_if_debugging())

    async def run(self, what: str, body: Callable[[], Awaitable[None]]) -> None:
        """Run some of the guest's code; see `guests.run`."""
        await guests.run(self._life, what, body, context=self._context)

    async def _background(self, *, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """The guest's own tasks. When one fails, so does this."""

        async def live() -> None:
            async with trio.open_nursery() as background:
                task_status.started(background)
                await trio.sleep_forever()

        await self.run("a background task", live)

    async def _open_guest(self) -> None:
        def left() -> None:
            self._is_left_opening = True

        self._layer.starting()
        try:
            with trio.fail_after(OPEN_SECONDS):
                # What opens in the end, though nobody waits for it any more, is closed again.
                await guests.run(
                    self._life,
                    "open()",
                    self._guest.open,
                    on_left=left,
                    afterwards=self._guest.close,
                    context=self._context,
                )
        except trio.TooSlowError:
            raise DeviceFailed(
                f"{self._name} did not open within {OPEN_SECONDS:g} s; check its hardware and try again"
            ) from None
        self._layer.started()

    async def _close_guest(self) -> None:
        with trio.CancelScope(shield=True):
            await self._before_close()
            if self._is_left_opening:
                return
            with trio.move_on_after(CLOSE_SECONDS) as limit:
                try:
                    await self.run("close()", self._guest.close)
                except Exception as error:  # any driver's close; its neighbours must close too
                    _log.warning("%s did not close well: %s", self._name, error, exc_info=_if_debugging())
            if limit.cancelled_caught:
                _log.warning(
                    "%s did not close within %g s; its hardware may still be held", self._name, CLOSE_SECONDS
                )

    def _settle(self, failure: Exception | None) -> None:
        if failure is None:
            self._layer.closed()
        elif isinstance(failure, DeviceMissing):
            self._layer.closed(missing=str(failure))
        else:
            self._layer.failed(str(failure) or type(failure).__name__)


def _if_debugging() -> bool:
    return _log.isEnabledFor(logging.DEBUG)
