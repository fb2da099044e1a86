"""Worker threads for code of drivers: so many for each board, and of these so many for each device.

What blocks on one board takes no thread from another board, nor from the exporter itself. Each thread is held under
the name of a device and a method, so that whoever gets none is told who has them. No I/O is here.
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
"""Worker threads of all devices of a board together. A device that has none gets its first one above this limit."""
THREAD_WAIT_SECONDS = 30.0
"""A call that has no thread by then fails."""
_MAX_NAMED_HOLDERS = 4

running_method: contextvars.ContextVar[str] = contextvars.ContextVar("running_method")
"""What of a driver the current task runs, as users know it, such as `on()`; set by `guests`."""


@dataclass(frozen=True, eq=False)
class HeldThread:
    """One thread in use."""

    device: DeviceThreads
    method: str
    """As users know it, such as `on()`."""
    since: datetime.datetime = field(default_factory=datetime.datetime.now)
    """In the host's time, for people at the host."""


class BoardThreads:
    """The worker threads of one board. All methods are for one trio loop."""

    def __init__(self) -> None:
        self.held: dict[HeldThread, None] = {}
        """The oldest first."""
        self._waiting: dict[_Waiter, None] = {}

    def may_have(self, device: DeviceThreads) -> bool:
        """Whether there is a thread for this device now."""
        if device.count >= MAX_DEVICE_THREADS:
            return False
        return device.count == 0 or len(self.held) < MAX_BOARD_THREADS

    def take(self, device: DeviceThreads, method: str) -> HeldThread:
        """Count a thread; whether there is one has been asked before."""
        held = HeldThread(device, method)
        self.held[held] = None
        device.count += 1
        return held

    async def wait(self, device: DeviceThreads, method: str) -> HeldThread:
        """Wait in the board's line for a thread. When cancelled, none is held."""
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
        """The thread is free; whoever has waited longest among those who may have it gets it."""
        del self.held[held]
        held.device.count -= 1
        for waiter in [*self._waiting]:
            if self.may_have(waiter.device):
                del self._waiting[waiter]
                waiter.held = self.take(waiter.device, waiter.method)
                waiter.granted.set()

    def holders(self, device: DeviceThreads) -> str:
        """In words: what keeps this device from a thread, and since when."""
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
    """The worker threads of one device, which are its board's."""

    def __init__(self, path: str = "", board: BoardThreads | None = None) -> None:
        """`path` is for users; without a `board` the device is one of its own."""
        self.path = path
        self.count = 0
        """Those in use."""
        self.board = BoardThreads() if board is None else board

    def label(self, method: str) -> str:
        """The method of this device, for users."""
        return f"{self.path}: {method}" if self.path else method

    async def acquire(self, what: str = "a thread", *, is_patient: bool = False) -> HeldThread:
        """Take a thread, which has to be given to `release`; for `running_method`, or else for `what`.

        When cancelled, none is held. It lets others run only if it has to wait, and with `is_patient` it waits
        without a bound.

        Raises:
            DeviceBusy: there was none within `THREAD_WAIT_SECONDS`; its message names who has them.
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
        """Give a thread back."""
        self.board.release(held)


@dataclass(eq=False)
class _Waiter:
    device: DeviceThreads
    method: str
    granted: trio.Event = field(default_factory=trio.Event)
    held: HeldThread | None = None
