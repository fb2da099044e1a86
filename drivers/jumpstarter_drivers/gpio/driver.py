"""Single GPIO lines on the host, through gpiozero's pin factories, with the keys of Jumpstarter 0.9's gpiod driver."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import trio
from jumpstarter_exporter.core import Core
from jumpstarter_exporter.driver import DeviceMissing, Driver, export
from jumpstarter_exporter.grpc_interface import GrpcInterface, jumpstarter_interface
from jumpstarter_proto.notifications import Broadcast

from jumpstarter_drivers.gpio.level import Edge, InputLevel
from jumpstarter_drivers.power import pins
from jumpstarter_drivers.power.interface import State, as_state
from jumpstarter_drivers.power.relay import RelayCore, Wiring

__all__ = ["DigitalInput", "DigitalOutput"]

_PULLS = {None: None, "as_is": None, "pull_up": "up", "pull_down": "down", "disabled": "floating"}


class InputCore(Core["DigitalInput"]):
    """A line that is watched from its first use to the end of the exporter. It is never driven."""

    def __init__(self, config: DigitalInput) -> None:
        super().__init__(config)
        self._line: pins.InputLine | None = None
        self._level: InputLevel | None = None
        self._early: list[bool] = []
        """The last level that was reported before `_level` is known."""
        self._changed = Broadcast()
        self._lock = threading.Lock()

    async def open(self) -> None:
        """Make the line an input and watch it. DeviceMissing without such hardware, DeviceBusy if it is in use."""
        self._level, self._early = None, []
        token = trio.lowlevel.current_trio_token()

        def report(is_high: bool) -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(self._report, is_high)

        is_high = await self.in_thread(self._acquire, report)
        # The line may have changed since it was read.
        is_high = [is_high, *self._early][-1]
        self._level = InputLevel(is_active=is_high != self.config.active_low)

    async def close(self) -> None:
        """Release the line. It stays an input."""
        await self.in_thread(self._let_go)

    @property
    def level(self) -> InputLevel:
        """What is known about the line."""
        if self._level is None:
            raise DeviceMissing("the line is closed; use it through its session")
        return self._level

    async def until(self, condition: Callable[[InputLevel], bool]) -> None:
        """Wait until the condition is true."""
        while True:
            changed = self._changed.next
            if condition(self.level):
                return
            await changed.wait()

    def _acquire(self, report: Callable[[bool], object]) -> bool:
        config = self.config
        chip = None if config.pin_factory else config.device
        with self._lock:
            if self._line is None:
                self._line = pins.acquire_input(config.line, factory=config.pin_factory, chip=chip)
            return self._line.watch(_PULLS[config.bias], report)

    def _let_go(self) -> None:
        with self._lock:
            line, self._line = self._line, None
            if line is not None:
                line.release()

    def _report(self, is_high: bool) -> None:
        if self._level is None:
            self._early = [is_high]
        else:
            self._level.change(is_active=is_high != self.config.active_low)
            self._changed.notify()


class _Line(Driver):
    """What inputs and outputs have in common."""

    packages: ClassVar[tuple[str, ...]] = ("gpiozero",)
    device: str
    pin_factory: str | None

    @classmethod
    def host_nodes(cls, values: Mapping[str, Any]) -> Sequence[str]:
        """The chip, if it is one."""
        return [] if values.get("pin_factory") else [str(values.get("device", cls.device))]

    def _check(self, **plain: str | None) -> None:
        for key, value in plain.items():
            allowed = "as_is" if key == "bias" else "push_pull"
            if value not in (None, allowed):
                raise ValueError(f"gpiozero does not support {key} {value!r} for this line; leave {key} out")
        if not self.device.startswith("/dev/"):
            raise ValueError(f"device is {self.device!r}; it takes a chip such as /dev/gpiochip0")


@dataclass(kw_only=True, eq=False)
class DigitalInput(_Line):
    """A line that is read, and whose changes are awaited.

        export:
          power-good:
            type: gpio.DigitalInput
            config:
              line: 27
              device: /dev/gpiochip0
              bias: pull_down

    It never drives the line; the line is watched from its first use to the end of the exporter.
    """

    client: ClassVar[str] = "jumpstarter_driver_gpiod.client.DigitalInputClient"
    interface: ClassVar[str] = "gpio"
    grpc_interfaces: ClassVar[tuple[GrpcInterface, ...]] = (jumpstarter_interface("gpio_input"),)
    core_of: ClassVar[type[InputCore]] = InputCore

    line: int | str
    """Number or name of the chip's line; with `pin_factory`, of a pin of the Raspberry Pi's header."""
    device: str = "/dev/gpiochip0"
    drive: str | None = None
    active_low: bool = False
    bias: Literal["as_is", "pull_up", "pull_down", "disabled"] | None = None
    pin_factory: str | None = None
    """A pin factory of gpiozero, in place of `device`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check(drive=self.drive)

    @export
    async def read_pin(self) -> int:
        """1 if the line is active, 0 if it is not."""
        return int(self.core.level.is_active)

    @export
    async def wait_for_active(self, timeout: float | None = None) -> None:
        """Wait until the line is active. A pulse counts, too. TimeoutError after so many seconds."""
        await self._wait("active", "rising", timeout, is_level=True)

    @export
    async def wait_for_inactive(self, timeout: float | None = None) -> None:
        """Wait until the line is inactive. A pulse counts, too. TimeoutError after so many seconds."""
        await self._wait("inactive", "falling", timeout, is_level=True)

    @export
    async def wait_for_edge(self, edge_type: Edge, timeout: float | None = None) -> None:
        """Wait for the next change: rising is from inactive to active. TimeoutError after so many seconds."""
        await self._wait(f"a {edge_type} edge", edge_type, timeout, is_level=False)

    async def _wait(self, what: str, edge: Edge, timeout: float | None, *, is_level: bool) -> None:
        limit = float("inf") if timeout is None else timeout
        if not limit >= 0:
            raise ValueError(f"timeout is {limit:g}; it takes seconds, 0 or more")
        before = self.core.level.edges(edge)

        def is_over(level: InputLevel) -> bool:
            return (is_level and level.is_active == (edge == "rising")) or level.edges(edge) != before

        with trio.move_on_after(limit):
            await self.core.until(is_over)
            return
        state = "active" if self.core.level.is_active else "inactive"
        raise TimeoutError(
            f"line {self.line} did not become {what} within {limit:g} s, and is {state}; check the wiring"
            if is_level
            else f"line {self.line} had no {edge} edge within {limit:g} s, and is {state}; check the wiring"
        )


@dataclass(kw_only=True, eq=False)
class DigitalOutput(_Line):
    """A line that is driven.

        export:
          reset:
            type: gpio.DigitalOutput
            config:
              line: 17
              device: /dev/gpiochip0
              active_low: true

    The exporter's first use of it drives it to `initial_value`. Closing it leaves the line driven, as for
    power.GpioRelay.
    """

    client: ClassVar[str] = "jumpstarter_driver_gpiod.client.DigitalOutputClient"
    interface: ClassVar[str] = "gpio"
    grpc_interfaces: ClassVar[tuple[GrpcInterface, ...]] = (jumpstarter_interface("gpio_output"),)
    core_of: ClassVar[type[RelayCore]] = RelayCore

    line: int | str
    """Number or name of the chip's line; with `pin_factory`, of a pin of the Raspberry Pi's header."""
    device: str = "/dev/gpiochip0"
    drive: str | None = None
    active_low: bool = False
    bias: str | None = None
    initial_value: Literal["active", "inactive", "on", "off", "leave"] | bool | None = "inactive"
    release: State | bool = "leave"
    """What the end of a session that has used it does: leave the line as it is, or drive it to on or off."""
    pin_factory: str | None = None
    """A pin factory of gpiozero, in place of `device`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check(drive=self.drive, bias=self.bias)
        self.release = as_state(self.release)
        first: State = "on" if self.initial_value in ("active", "on", True) else "off"
        self.switching = Wiring(
            self.line,
            active_high=not self.active_low,
            at_open="leave" if self.initial_value == "leave" else first,
            factory=self.pin_factory,
            chip=None if self.pin_factory else self.device,
        )

    async def end_session(self) -> None:
        """Drive the line as `release` says."""
        await self.in_thread(self.core.switch, as_state(self.release))

    @export
    def on(self) -> None:
        """Drive the line to its active level."""
        self.core.switch("on")

    @export
    def off(self) -> None:
        """Drive the line to its inactive level."""
        self.core.switch("off")

    @export
    def read_pin(self) -> int:
        """1 if the line is driven to its active level, 0 if to the other."""
        return int(self.core.is_on())
