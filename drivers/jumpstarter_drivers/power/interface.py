"""What every power switch is for the exporter: `PowerInterface`, the base of them all."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import trio
from jumpstarter_exporter.driver import DeviceFailed, Driver, export
from jumpstarter_exporter.grpc_interface import GrpcInterface, jumpstarter_interface

from jumpstarter_drivers.power.reading import PowerReading

__all__ = ["PowerInterface", "State", "as_state"]

State = Literal["leave", "on", "off"]


@dataclass(kw_only=True, eq=False)
class PowerInterface(Driver):
    """Base of all power switches. `on` and `off` may be plain or async; return when the board is switched."""

    client: ClassVar[str] = "jumpstarter_driver_power.client.PowerClient"
    interface: ClassVar[str] = "power"
    grpc_interfaces: ClassVar[tuple[GrpcInterface, ...]] = (jumpstarter_interface("power"),)

    release: State | bool = "leave"
    """What the end of a session that has used it does to the board: leave it as it is, or switch it on or off."""

    @property
    def switch_seconds(self) -> float:
        """How long an interrupted power cycle may take to switch on again."""
        return 10.0

    async def end_session(self) -> None:
        """Switch as `release` says."""
        release = as_state(self.release)
        if release != "leave":
            await self._run(self.on if release == "on" else self.off)

    @abstractmethod
    def on(self) -> Awaitable[None] | None:
        """Switch the board on; switching on what is on changes nothing."""

    @abstractmethod
    def off(self) -> Awaitable[None] | None:
        """Switch the board off; switching off what is off changes nothing."""

    @export(reads=True)
    def read(self) -> Iterator[PowerReading]:
        """Measure, one reading after the other until the supply has no more to tell."""
        yield from _cannot_measure()  # in a generator, as callers ask for one

    @export(reads=True)
    async def status(self) -> str:
        """Ask the switch for its state: on, off, unknown, or partial where it switches several supplies."""
        raise NotImplementedError("this power switch cannot report its state")

    @export
    def rescue(self) -> None:
        """Start the board in its rescue mode."""
        raise NotImplementedError("this power switch has no rescue mode")

    @export
    async def cycle(self, wait: float = 2.0) -> None:
        """Switch off, wait so many seconds, switch on.

        The exporter does all of it, and a cycle that is interrupted (Ctrl-C, a lost connection, the end of
        the session), or that fails while it switches off, switches the board on at once: no board stays dark because
        its user went away.
        """
        if not 0 <= wait < float("inf"):
            raise ValueError(f"wait is {wait:g}; it takes seconds, 0 or more")
        with self.exclusive("being power-cycled"):
            try:
                await self._run(self.off)
                await trio.sleep(wait)
            except Exception:  # any driver's: the outlet may be off all the same
                try:
                    with trio.fail_after(self.switch_seconds, shield=True):
                        await self._run(self.on)
                except Exception as error:  # what went wrong before is said to the user
                    self.logger.warning("the board may be off; it was not switched on again: %s", error)
                raise
            except BaseException:  # a cancel, which may come in the group of a driver's nursery
                with trio.fail_after(self.switch_seconds, shield=True):
                    await self._run(self.on)
                raise
            with trio.fail_after(self.switch_seconds, shield=True):
                await self._run(self.on)

    async def switch_to(self, *, on: bool) -> None:
        """`on` or `off`, for a device that this one is a part of."""
        await self._run(self.on if on else self.off)

    async def measure(self) -> PowerReading:
        """The first reading, for a device that this one is a part of. NotImplementedError if it cannot measure."""
        readings: AsyncIterator[PowerReading] | Iterator[PowerReading] = self.read()
        if isinstance(readings, AsyncIterator):
            async for reading in readings:
                return reading
        elif (found := await self.in_thread(_first, readings)) is not None:
            return found
        raise DeviceFailed("the supply measured nothing; ask its maker whether it can")

    async def _run(self, switch: Callable[[], Awaitable[None] | None]) -> None:
        # What a plain method blocks on must not hold up the other devices.
        result = switch() if inspect.iscoroutinefunction(switch) else await self.in_thread(switch)
        if result is not None:
            await result


def _first(readings: Iterator[PowerReading]) -> PowerReading | None:
    return next(readings, None)


def _cannot_measure() -> Iterator[PowerReading]:
    raise NotImplementedError("this power switch cannot measure; use a supply or a meter that can")


def as_state(configured: State | bool) -> State:
    """`on` and `off` as they were meant."""
    # YAML 1.1 reads a bare on or off as a boolean.
    if isinstance(configured, bool):
        return "on" if configured else "off"
    return configured
