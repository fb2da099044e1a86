"""Limits the worker threads for drivers' code: for each board, and for each of its devices.

Blocking code of one board takes no thread from another board or from the exporter itself. Each thread is held under
the name of a device and a method, so that the error for a call without a thread names them. No I/O here.
"""

from __future__ import annotations

import contextvars
import datetime
from dataclasses import dataclass, field

import trio

from jumpstarter_exporter.errors import DeviceBusy

__all__ = [
    "MAX_BOARD_THREADS",
    "MAX_DEVICE_THREADS",
    "THREAD_WAIT_SECONDS",
    "BoardThreads",
    "DeviceThreads",
    "HeldThread",
    "running_method",
]

MAX_DEVICE_THREADS = 16
"""Worker threads of one device."""
MAX_BOARD_THREADS = 64
"""Worker threads of all devices of a board together. A device without a thread gets its first one above this limit."""
THREAD_WAIT_SECONDS = 30.0
"""A call that has no thread by then fails."""
_MAX_NAMED_HOLDERS = 4

running_method: contextvars.ContextVar[str] = contextvars.ContextVar("running_method")
"""The driver's method that the current task runs, as users know it, such as `on()`; set by `isolation`."""


@dataclass(frozen=True, eq=False)
class HeldThread:
    """One thread in use."""

    device: DeviceThreads
    method: str
    """As users know it, such as `on()`."""
    since: datetime.datetime = field(default_factory=datetime.datetime.now)
    """In the host's local time."""


class BoardThreads:
    """The worker threads of one board. All methods are called in one trio loop."""

    def __init__(self) -> None:
        self.held: dict[HeldThread, None] = {}
        """The oldest first."""
        self._waiting: dict[_Waiter, None] = {}

    def may_have(self, device: DeviceThreads) -> bool:
        """Whether a thread is available for this device now."""
        if device.count >= MAX_DEVICE_THREADS:
            return False
        return device.count == 0 or len(self.held) < MAX_BOARD_THREADS

    def take(self, device: DeviceThreads, method: str) -> HeldThread:
        """Count a thread; `may_have` must have been checked before."""
        held = HeldThread(device, method)
        self.held[held] = None
        device.count += 1
        return held

    async def wait(self, device: DeviceThreads, method: str) -> HeldThread:
        """Wait in the board's queue for a thread. After a cancellation none is held."""
        waiter = _Waiter(device, method)
        self._waiting[waiter] = None
        try:
            await waiter.granted.wait()
        except BaseException:
            self._waiting.pop(waiter, None)
            if waiter.held is not None:
                self.release(waiter.held)
            raise
        assert waiter.held is not None
        return waiter.held

    def release(self, held: HeldThread) -> None:
        """Free the thread; the first waiter that may have it gets it."""
        del self.held[held]
        held.device.count -= 1
        for waiter in [*self._waiting]:
            if self.may_have(waiter.device):
                del self._waiting[waiter]
                waiter.held = self.take(waiter.device, waiter.method)
                waiter.granted.set()

    def holders(self, device: DeviceThreads) -> str:
        """A sentence: which methods use the threads, and since when."""
        is_full = device.count >= MAX_DEVICE_THREADS
        held = [one for one in self.held if one.device is device] if is_full else list(self.held)
        groups: dict[tuple[DeviceThreads, str], list[HeldThread]] = {}
        for one in held:
            groups.setdefault((one.device, one.method), []).append(one)
        named = [
            f"{owner.label(method)} since {ones[0].since:%Y-%m-%d %H:%M:%S}"
            + (f" ({len(ones)} threads)" if len(ones) > 1 else "")
            for (owner, method), ones in list(groups.items())[:_MAX_NAMED_HOLDERS]
        ]
        if more := len(groups) - len(named):
            named.append(f"{more} more methods")
        whose = "device" if is_full else "board"
        return f"all {len(held)} worker threads of this {whose} are in use: {', '.join(named)}"


class DeviceThreads:
    """One device's share of its board's worker threads."""

    def __init__(self, path: str = "", board: BoardThreads | None = None) -> None:
        """`path` is for messages; without a `board` the device is a board of its own."""
        self.path = path
        self.count = 0
        """The number of threads in use."""
        self.board = BoardThreads() if board is None else board

    def label(self, method: str) -> str:
        """The name of this device's method, for users."""
        return f"{self.path}: {method}" if self.path else method

    async def acquire(self, what: str = "a thread", *, is_patient: bool = False) -> HeldThread:
        """Take a thread, which must be passed to `release`, for `running_method` or else for `what`.

        After a cancellation none is held. It is a checkpoint only if it has to wait; with `is_patient` it waits
        without limit.

        Raises:
            DeviceBusy: none was available within `THREAD_WAIT_SECONDS`; the message names their holders.
        """
        method = running_method.get(what)
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.board.may_have(self):
            return self.board.take(self, method)
        with trio.move_on_after(float("inf") if is_patient else THREAD_WAIT_SECONDS):
            return await self.board.wait(self, method)
        raise DeviceBusy(
            f"{self.label(method)} has not begun within {THREAD_WAIT_SECONDS:g} s, as {self.board.holders(self)}; "
            "try again when they have ended, or restart the exporter"
        )

    def release(self, held: HeldThread) -> None:
        """Return a thread."""
        self.board.release(held)


@dataclass(eq=False)
class _Waiter:
    device: DeviceThreads
    method: str
    granted: trio.Event = field(default_factory=trio.Event)
    held: HeldThread | None = None
