"""Power switches for the user: `jumpstarter power on rpi4`, or `client.power.on()`."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, ClassVar

import trio
from jumpstarter_client.base import DriverClient
from jumpstarter_client.errors import DriverMethodNotImplemented
from jumpstarter_client.twin import twin, twin_iter
from jumpstarter_client.verb import verb

from jumpstarter_drivers.power.reading import PowerReading

if TYPE_CHECKING:
    from cyclopts import Parameter
    from jumpstarter_proto.duration_parameter import Seconds

__all__ = ["PowerClient", "PowerReading", "VirtualPowerClient"]

_ON_SECONDS = 10.0


class PowerClient(DriverClient):
    """Switches and measures a board's power."""

    interface: ClassVar[str] = "power"

    @verb
    @twin
    async def on(self) -> None:
        """Switch the board on."""
        await self.call_async("on")

    @verb
    @twin
    async def off(self) -> None:
        """Switch the board off."""
        await self.call_async("off")

    @verb
    @twin
    async def cycle(self, wait: Annotated[Seconds, Parameter(name=["--wait", "-w"])] = 2.0) -> None:
        """Switch the board off, wait, and switch it on.

        An interrupted cycle (Ctrl-C, a lost connection) switches the board on at once.

        Parameters
        ----------
        wait
            Seconds without power.
        """
        if not 0 <= wait < float("inf"):
            raise ValueError(f"wait is {wait:g}; it takes seconds, 0 or more")
        try:
            await self.call_async("cycle", wait)
        except DriverMethodNotImplemented:
            # Exporters of Jumpstarter 0.9 leave it to the client.
            await self._cycle_from_here(wait)

    @verb(name="read")
    def read_command(
        self,
        count: Annotated[int | None, Parameter(name=["--count", "-n"])] = None,
        interval: Annotated[Seconds, Parameter(name=["--interval", "-i"])] = 1.0,
        watch: Annotated[bool, Parameter(name=["--watch", "-w"], negative=())] = False,
    ) -> Iterator[PowerReading] | None:
        """Measure voltage, current and power.

        Parameters
        ----------
        count
            Number of measurements; default: 1. With 0, measure until Ctrl-C.
        interval
            Seconds between measurements.
        watch
            Measure until Ctrl-C. A terminal shows the last reading and a plot of earlier ones in one line.
        """
        times = count if count is not None else 0 if watch else 1
        readings = self.read(times, interval)
        if watch:
            # Switching a board, which is most of what one does, needs none of it.
            from jumpstarter_client.progress import is_live  # noqa: PLC0415

            from jumpstarter_drivers.power.watching import watch_readings  # noqa: PLC0415

            if is_live(sys.stdout):
                watch_readings(readings, sys.stdout)
                return None
        return readings

    @twin_iter
    async def read(self, count: int = 1, interval: float = 1.0) -> AsyncIterator[PowerReading]:
        """Measure so many times, 0 without end, with so many seconds between."""
        import msgspec  # noqa: PLC0415 - switching a board, which is most of what one does, needs none of it

        asked = 0
        while True:
            async with aclosing(self.streamingcall_async("read")) as readings:
                async for reading in readings:
                    yield msgspec.convert(reading, PowerReading)
            asked += 1
            if asked == count:
                return
            await trio.sleep(interval)

    @verb
    @twin
    async def status(self) -> str:
        """Ask the power switch for its state: on, off, partial or unknown; not each kind can report it."""
        return str(await self.call_async("status"))

    @verb
    @twin
    async def rescue(self) -> None:
        """Start the board in its rescue mode, if the power switch has one."""
        await self.call_async("rescue")

    async def _cycle_from_here(self, wait: float) -> None:
        try:
            await self.off.aio()
            await trio.sleep(wait)
        except trio.Cancelled:
            with trio.fail_after(_ON_SECONDS, shield=True):
                await self.on.aio()
            raise
        with trio.fail_after(_ON_SECONDS, shield=True):
            await self.on.aio()


class VirtualPowerClient(PowerClient):
    """Power of a virtual machine, which may also be thrown away."""

    @verb
    @twin
    async def off(self, destroy: bool = False) -> None:
        """Switch the machine off.

        Parameters
        ----------
        destroy
            Delete the machine; the next `on` starts a new one.
        """
        await self.call_async("off", destroy)
