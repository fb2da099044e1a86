"""Several supplies that together power one board, such as a main supply and a USB port, in a fixed order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import trio
from jumpstarter_exporter.driver import DeviceFailed, export

from jumpstarter_drivers.power.interface import PowerInterface
from jumpstarter_drivers.power.reading import PowerReading

__all__ = ["SupplyGroup"]

OPEN_SECONDS = 10.0
"""For supplies that were not open yet when they are to be switched off."""


@dataclass(kw_only=True, eq=False)
class SupplyGroup(PowerInterface):
    """The supplies that are its children, switched as one.

        export:
          power:
            type: power.SupplyGroup
            config:
              wait: 0.5          # seconds between two supplies
            children:            # on in this order, off in the opposite one
              main:
                type: http_power.HttpOutlet
                config: {device: shelly, host: 192.168.1.65}
              usb:
                type: power.HubPort
                config: {port: 1-1.3}

    A board never stays half on: if one supply cannot be switched on, those before it are switched off again. If one
    cannot be switched off, the others are all the same. Opening and closing it do nothing; its children see to it.
    """

    wait: float = 0.0

    def __post_init__(self) -> None:
        """Check the children."""
        super().__post_init__()
        if not 0 <= self.wait <= 60:
            raise ValueError(f"wait is {self.wait:g}; it takes seconds, from 0 to 60")
        if not self.children:
            raise ValueError("it has no children; add the supplies to `children`")
        for name, child in self.children.items():
            if not isinstance(child, PowerInterface):
                raise ValueError(  # noqa: TRY004 - it is the configuration's
                    f"its child {name} is not a power switch; put the supply itself there, and a `ref` to it elsewhere"
                )

    @property
    def switch_seconds(self) -> float:
        """As long as its supplies may take one after the other."""
        return sum(one.switch_seconds + self.wait for _, one in self._supplies())

    @export
    async def on(self) -> None:
        """Switch the supplies on, in their order."""
        switched: list[tuple[str, PowerInterface]] = []
        for name, supply in self._supplies():
            try:
                if switched:
                    await trio.sleep(self.wait)
                switched.append((name, supply))
                await supply.ensure_open()
                await supply.switch_to(on=True)
            except Exception as error:  # any driver's; what is on already must not stay so
                failed = await self._switch_off_shielded(switched)
                rest = f"{', '.join(failed)} may be on" if failed else "all are off again"
                raise DeviceFailed(f"the supply {name} was not switched on, {rest}: {error}") from error
            except BaseException:  # a cancel, which may come in the group of a driver's nursery
                await self._switch_off_shielded(switched)
                raise

    @export
    async def off(self) -> None:
        """Switch the supplies off, in the opposite order, and all of them whatever becomes of one."""
        failed = await self._switch_off_shielded(self._supplies())
        await trio.lowlevel.checkpoint_if_cancelled()
        if failed:
            said = "; ".join(f"{name}: {error}" for name, error in failed.items())
            raise DeviceFailed(f"not all supplies were switched off, so the board may have power: {said}")

    @export(reads=True)
    async def read(self) -> AsyncIterator[PowerReading]:  # type: ignore[override]
        """Measure all that can; of several, the sums of power and energy."""
        readings: list[PowerReading] = []
        for _, supply in self._supplies():
            try:
                await supply.ensure_open()
                readings.append(await supply.measure())
            except NotImplementedError:
                continue
        if not readings:
            raise NotImplementedError("none of the supplies can measure; use one with a meter")
        yield readings[0] if len(readings) == 1 else _sum(readings)

    @export(reads=True)
    async def status(self) -> str:
        """Ask all supplies: on, off, partial if they differ, or unknown if one does not know."""
        states = set()
        for _, supply in self._supplies():
            await supply.ensure_open()
            states.add(await supply.status())
        if "unknown" in states:
            return "unknown"
        return states.pop() if len(states) == 1 else "partial"

    def _supplies(self) -> list[tuple[str, PowerInterface]]:
        return [(name, one) for name, one in self.children.items() if isinstance(one, PowerInterface)]

    async def _switch_off_shielded(self, supplies: list[tuple[str, PowerInterface]]) -> dict[str, str]:
        """Switch off one after the other, the last one first, and say what failed. A cancel waits for all of them."""
        failed: dict[str, str] = {}
        left = dict(supplies)
        with trio.move_on_after(self.switch_seconds + OPEN_SECONDS, shield=True):
            for index, (name, supply) in enumerate(reversed(supplies)):
                if index:
                    await trio.sleep(self.wait)
                try:
                    await supply.ensure_open()
                    await supply.switch_to(on=False)
                except Exception as error:  # any driver's; the others have to be switched off
                    failed[name] = str(error)
                del left[name]
        return failed | dict.fromkeys(left, "it took too long")


def _sum(readings: list[PowerReading]) -> PowerReading:
    powers = [
        one.power if one.power is not None else one.apparent_power if len(one.measured) == 2 else None
        for one in readings
    ]
    energies = [one.energy for one in readings]
    return PowerReading(
        power=None if None in powers else sum(filter(None, powers)),
        energy=None if None in energies else sum(filter(None, energies)),
        measured=(),
    )
