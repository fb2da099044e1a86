"""Power switches on the host. `PowerInterface` is the base of them all; a new one fills in `on` and `off`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from jumpstarter_exporter.driver import DeviceMissing, export

from jumpstarter_drivers.power.command import CommandPower
from jumpstarter_drivers.power.interface import PowerInterface, State, as_state
from jumpstarter_drivers.power.reading import PowerReading
from jumpstarter_drivers.power.relay import RelayCore, Wiring
from jumpstarter_drivers.power.supplies import SupplyGroup

__all__ = [
    "CommandPower",
    "GpioRelay",
    "HubPort",
    "MockPower",
    "PowerInterface",
    "PowerSwitch",
    "SupplyGroup",
    "SyncMockPower",
]


@dataclass(kw_only=True, eq=False)
class MockPower(PowerInterface):
    """Switches nothing and measures two fixed values. Closing it does nothing.

    export:
      power:
        type: power.MockPower
    """

    @export
    async def on(self) -> None:
        """Write a log entry."""
        self.logger.info("power on")

    @export
    async def off(self) -> None:
        """Write a log entry."""
        self.logger.info("power off")

    @export(reads=True)
    async def read(self) -> AsyncIterator[PowerReading]:  # type: ignore[override]
        """Off, then on."""
        yield PowerReading(voltage=0.0, current=0.0)
        yield PowerReading(voltage=5.0, current=2.0)


@dataclass(kw_only=True, eq=False)
class SyncMockPower(PowerInterface):
    """MockPower with synchronous methods, as in Jumpstarter 0.9."""

    @export
    def on(self) -> None:
        """Write a log entry."""
        self.logger.info("power on")

    @export
    def off(self) -> None:
        """Write a log entry."""
        self.logger.info("power off")

    @export(reads=True)
    def read(self) -> Iterator[PowerReading]:
        """Off, then on."""
        yield PowerReading(voltage=0.0, current=0.0)
        yield PowerReading(voltage=5.0, current=2.0)


class _Relay(PowerInterface):
    """Switches by one pin. A subclass is the configuration that leads to the wiring."""

    packages: ClassVar[tuple[str, ...]] = ("gpiozero",)
    core_of: ClassVar[type[RelayCore]] = RelayCore

    def __post_init__(self) -> None:
        super().__post_init__()
        self.switching = self.wiring()

    @abstractmethod
    def wiring(self) -> Wiring:
        """What is wired to what. Raises ValueError for a configuration that makes no sense."""

    @export
    def on(self) -> None:
        """Drive the pin to its active level."""
        self.core.switch("on")

    @export
    def off(self) -> None:
        """Drive the pin to its inactive level."""
        self.core.switch("off")

    @export(reads=True)
    def status(self) -> str:  # type: ignore[override] # in a worker thread, as all of it
        """Return on or off, as the pin is driven. DeviceFailed before it was switched."""
        return "on" if self.core.is_on() else "off"


@dataclass(kw_only=True, eq=False)
class GpioRelay(_Relay):
    """A relay or transistor on a GPIO pin, through any pin factory of gpiozero.

        export:
          power:
            type: power.GpioRelay
            config:
              pin: 17            # BCM number, or a name such as GPIO17, BOARD11, J8:11
              # chip: /dev/gpiochip1, whose line has this number or name, where it is no pin of a Raspberry Pi's header
              active_high: true  # false for relay boards that switch on with a low level
              at_open: leave     # leave | on | off: with the exporter's first use of it
              release: leave     # leave | on | off: at the end of each session that has used it

    With `at_open: leave` the pin is not touched before the first `on` or `off`. With `release: leave` it stays driven
    as it is for as long as the exporter's process lives, through all sessions; what happens to it after that is the
    kernel's decision (README.md). `at_close` is the former name of `release`.
    """

    pin: int | str
    active_high: bool = True
    at_open: State | bool = "leave"
    at_close: State | bool = "leave"
    """`release`, by its former name."""
    pin_factory: str | None = None
    """lgpio, rpigpio, pigpio, native, mock or another; else $GPIOZERO_PIN_FACTORY, else lgpio."""
    chip: str | None = None
    """A GPIO chip such as /dev/gpiochip1, whose lines `pin` numbers or names; None: the Raspberry Pi's header."""

    @classmethod
    def host_nodes(cls, values: Mapping[str, Any]) -> Sequence[str]:
        """The chip, if one is named."""
        return [str(chip)] if (chip := values.get("chip")) is not None else []

    def wiring(self) -> Wiring:
        """Return how the relay is configured to be driven."""
        at_close, self.release = as_state(self.at_close), as_state(self.release)
        if at_close != "leave":
            if self.release not in ("leave", at_close):
                raise ValueError(f"at_close is {at_close} and release is {self.release}; leave at_close out")
            self.release = at_close
        if self.chip is not None:
            if self.pin_factory not in (None, "lgpio"):
                raise ValueError(
                    f"pin_factory is {self.pin_factory}; a chip is used by lgpio, so leave it out"
                )
            if not self.chip.startswith("/dev/"):
                raise ValueError(f"chip is {self.chip!r}; it takes a path such as /dev/gpiochip1")
        return Wiring(
            self.pin, self.active_high, as_state(self.at_open), factory=self.pin_factory, chip=self.chip
        )


@dataclass(kw_only=True, eq=False)
class PowerSwitch(_Relay):
    """Jumpstarter 0.9's power switch on a GPIO line: its keys, on the lgpio pin factory.

    The exporter's first use of it switches to `initial_value`, which is off unless it says otherwise; `GpioRelay`
    leaves the board as it is. Closing it leaves the line driven, as for GpioRelay.
    """

    line: int
    device: str = "/dev/gpiochip0"
    drive: str | None = None
    active_low: bool = False
    bias: str | None = None
    initial_value: Literal["active", "inactive", "on", "off"] | bool | None = "inactive"
    mode: str = "push_pull"

    @classmethod
    def host_nodes(cls, values: Mapping[str, Any]) -> Sequence[str]:
        """The chip."""
        return [str(values.get("device", cls.device))]

    def wiring(self) -> Wiring:
        """Convert the configured value."""
        for key, value, plain in (("drive", self.drive, "push_pull"), ("bias", self.bias, "as_is")):
            if value not in (None, plain):
                raise ValueError(f"gpiozero does not support {key} {value!r}; leave {key} out")
        if not self.device.startswith("/dev/"):
            raise ValueError(f"device is {self.device!r}; it takes a chip such as /dev/gpiochip0")
        at_open: State = "on" if self.initial_value in ("active", "on", True) else "off"
        return Wiring(self.line, not self.active_low, at_open, chip=self.device)


@dataclass(kw_only=True, eq=False)
class HubPort(PowerInterface):
    """A port of a USB hub that switches the power of each of its ports by itself.

        export:
          power:
            type: power.HubPort
            config:
              port: 1-1.3      # where the board is, as sysfs names it; or `hub: 1-1` and `port: 3`
              release: leave   # leave | on | off: at the end of each session that has used it

    Opening and closing it switch nothing. Both ports of a USB 3 socket are switched.
    """

    packages: ClassVar[tuple[str, ...]] = ("usb",)

    port: str | int
    """The place of a device such as 1-1.3, or the port's number if there is a `hub`."""
    hub: str | None = None
    """The hub as sysfs names it, such as 1-1, or usb1 for a root hub."""
    peer: str | None = None
    """The port of the other speed that is the same socket, such as 2-1.3, where the exporter does not find it."""
    allow_disconnecting_host: bool = False
    """Whether it may be switched off although the host's own disk, network, keyboard or mouse is behind it."""

    def __post_init__(self) -> None:
        """Parse the names. ValueError for an invalid one."""
        # Half a megabyte, which hosts whose boards have other switches are spared.
        from jumpstarter_drivers.power.usb_hub.switch import SocketSwitch  # noqa: PLC0415
        from jumpstarter_drivers.power.usb_hub.topology import parse_port  # noqa: PLC0415

        super().__post_init__()
        self._socket = SocketSwitch(
            parse_port(self.port, self.hub),
            peer=None if self.peer is None else parse_port(self.peer),
            allow_disconnecting_host=self.allow_disconnecting_host,
            log=self.logger,
        )

    @classmethod
    def host_nodes(cls, values: Mapping[str, Any]) -> Sequence[str]:
        """The hub."""
        from jumpstarter_drivers.power.usb_hub.topology import parse_port  # noqa: PLC0415 - see above

        with suppress(ValueError):  # which its constructor says
            return [parse_port(values.get("port", ""), values.get("hub")).hub]
        return []

    def describe_hardware(self) -> str:
        """Describe the ports of the socket, what switches them, and whether the hub switches each port by itself."""
        return self._socket.describe()

    async def open(self) -> None:
        """Find the port; see `SocketSwitch.describe` for what is raised."""
        self.logger.info("%s", await self.in_thread(self._socket.describe))

    @export
    def on(self) -> None:
        """Switch the port on, and wait until the hub reports it."""
        self._switch(on=True)

    @export
    def off(self) -> None:
        """Switch the port off, and wait until the hub reports it. If it stays on, it is switched on again."""
        self._switch(on=False)

    @export(reads=True)
    def status(self) -> str:  # type: ignore[override] # in a worker thread, as all of it
        """Ask the hub: on, off, or partial if the two ports of a USB 3 socket differ."""
        with self._state_of_device():
            return self._socket.status()

    def _switch(self, *, on: bool) -> None:
        with self._state_of_device():
            self._socket.switch(on=on)

    @contextmanager
    def _state_of_device(self) -> Iterator[None]:
        try:
            yield
        except DeviceMissing as error:
            self.missing(str(error))
            raise
        self.ready()
