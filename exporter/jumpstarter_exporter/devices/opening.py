"""Opens and closes a driver object or a core, and turns the result into its state.

It is opened at its first use, in a nursery that outlives its users. A failed device is closed, and opened again at its
next use. Exceptions of its code become a state with a reason, and an error for the caller. Code that never returns is
abandoned (see `isolation`).
"""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Protocol

import trio
from jumpstarter_proto.errors import JumpstarterUsageError
from jumpstarter_proto.notifications import Broadcast
from jumpstarter_proto.tasks import single

from jumpstarter_exporter import isolation
from jumpstarter_exporter.device_state import DeviceLayer, Lifecycle
from jumpstarter_exporter.errors import DeviceBusy, DeviceFailed, DeviceMissing

__all__ = ["CLOSE_SECONDS", "HANDOVER_SECONDS", "OPEN_SECONDS", "Closings", "Opening"]

OPEN_SECONDS = 60.0
"""A driver that has not acquired its hardware by then has failed."""
CLOSE_SECONDS = 10.0
"""A driver that has not released its hardware by then is left running."""
HANDOVER_SECONDS = CLOSE_SECONDS + 5
"""The time for which busy hardware is tried again while other devices of this process are being closed."""

_log = logging.getLogger(__name__)


class Openable(Protocol):
    """A driver object or core."""

    @property
    def waits_for_hardware(self) -> bool: ...
    async def open(self) -> None: ...
    async def close(self) -> None: ...
    def attach(self, nursery: trio.Nursery | None) -> None: ...


class Closings:
    """The devices of this process that are being closed, for devices whose hardware is busy. In one trio loop."""

    def __init__(self) -> None:
        self.ended = Broadcast()
        """Notified whenever a close has ended."""
        self._names: list[str] = []

    @property
    def are_under_way(self) -> bool:
        """Whether hardware is about to be released."""
        return bool(self._names)

    @property
    def names(self) -> list[str]:
        """The names of the devices, each once. Also for other threads."""
        return sorted({name for name in tuple(self._names) if name})

    @contextmanager
    def under_way(self, name: str = "") -> Iterator[None]:
        """Counts a close in the block, after which hardware may be free; the name is the device's, if it has one."""
        self._names.append(name)
        try:
            yield
        finally:
            self._names.remove(name)
            self.ended.notify()


class Opening:
    """Opens and closes one object, for one caller at a time. `layer` of `life` is its state."""

    def __init__(
        self,
        guest: Openable,
        name: str,
        life: Lifecycle,
        layer: DeviceLayer,
        *,
        closings: Closings,
        before_close: Callable[[], Awaitable[None]],
        on_closed: Callable[[], None] = lambda: None,
        needed: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`before_close` closes what uses the object; it and `on_closed` are called at each close and never raise.

        `closings` are those of all devices that may have the same hardware. In a block of `needed` is what ends when
        the hardware is unplugged.
        """
        self._guest = guest
        self._name = name
        self._lifecycle = life
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
        """For busy hardware."""
        self._ended = trio.Event()
        self._is_open = False
        self._is_left_opening = False
        """Its `open` was abandoned and has not returned."""
        self._is_retired = False

    @property
    def is_open(self) -> bool:
        """Whether it can be used without being opened first."""
        return self._is_open and self._layer.is_open

    def attach(self, nursery: trio.Nursery | None, context: contextvars.Context | None = None) -> None:
        """Use this nursery, which outlives every use, from now on.

        `context` is for its code, otherwise the callers'.
        """
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
            if self._is_retired:  # while this task waited for the lock
                raise self._closed_early()
            if (why := self._lifecycle.why_unplugged) and not self._guest.waits_for_hardware:
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
        ended = self._closings.ended.next
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
        """Wait for the next close, if there is one; whether it has ended.

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
        """The device no longer exists: close it in that nursery, and never open it again."""
        self._is_retired = True
        self.shut_soon(nursery)

    def shut_soon(self, nursery: trio.Nursery) -> None:
        """Start a task in that nursery that runs `shut`. Its hardware is no longer needed at once."""
        closing = ExitStack()
        closing.enter_context(self._closings.under_way())

        async def shut() -> None:
            with closing:
                await self.shut()

        nursery.start_soon(shut)

    async def shut(self) -> None:
        """Close it after what uses it, unless it is closed. Returns when that is done."""
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
                except Exception as error:  # any driver's open; it becomes the state and is raised
                    failure = error
                finally:
                    self._is_open = False
                    await self._close_guest()
                nursery.cancel_scope.cancel()
        except Exception as error:  # any driver's background tasks; it becomes the state
            failure = single(error)
            _log.debug("%s: a background task failed", self._name, exc_info=error)
        finally:
            self._scope = None
            try:
                self._take_nursery()
                if started or not isinstance(failure, DeviceBusy):  # otherwise the caller of open decides
                    self._settle(failure)
                    self._on_closed()
            finally:
                self._ended.set()  # tasks that wait for it are shielded
        if not started:
            raise failure or self._closed_early()

    def _closed_early(self) -> DeviceFailed:
        if self._is_retired:
            return DeviceFailed(
                f"{self._name} is not a device of this board any more; list its devices: jumpstarter devices"
            )
        return DeviceFailed(f"{self._name} was closed while it was being opened; try again")

    def _take_nursery(self) -> None:
        try:
            with isolation.isolated("attach()"):
                self._guest.attach(None)
        except Exception as error:  # any driver's attach; it is closed in any case
            _log.warning("closing %s failed: %s", self._name, error, exc_info=_if_debugging())

    async def run(self, what: str, body: Callable[[], Awaitable[None]]) -> None:
        """Run some of the object's code; see `isolation.run`."""
        await isolation.run(self._lifecycle, what, body, context=self._context)

    async def _background(self, *, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """The object's own tasks. When one fails, so does this."""

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
                # If it opens after the time limit, it is closed again.
                await isolation.run(
                    self._lifecycle,
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
                except Exception as error:  # any driver's close; its neighbours must close, too
                    _log.warning("closing %s failed: %s", self._name, error, exc_info=_if_debugging())
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
