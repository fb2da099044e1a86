"""Relays of boards on USB or a serial port. `HidRelay` and `SerialRelay` know kinds by rows of their tables."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, TypeVar

from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.core import Core
from jumpstarter_exporter.devices import Spec
from jumpstarter_exporter.node_errors import explain_open_error
from jumpstarter_proto.yaml_files import nearest

from jumpstarter_drivers.power.interface import State, as_state
from jumpstarter_drivers.power.outlet import OutletRefused, OutletUnreachable, RemoteOutlet
from jumpstarter_drivers.relay_power.hid_table import HID_BOARDS, ControlTransfer, HidBoard, Report
from jumpstarter_drivers.relay_power.serial_line import open_line
from jumpstarter_drivers.relay_power.serial_table import SERIAL_BOARDS, SerialBoard
from jumpstarter_drivers.usb_devices import (
    UsbConnection,
    UsbDevice,
    UsbSearch,
    UsbTransferError,
    check_access,
    find_usb_device,
    matching_devices,
    open_usb_device,
)

__all__ = ["HidRelay", "NoyitoPowerHID", "NoyitoPowerSerial", "RelayBoard", "SerialRelay", "Ykush"]

Channel = int | Literal["all"]
T = TypeVar("T")

MAX_CHANNELS = 64


class RelayBoardCore(Core["_BoardRelay"]):
    """Switches as `at_open` says with the exporter's first use of the relay, and holds nothing."""

    async def open(self) -> None:
        """Switch, unless `at_open` is `leave`."""
        state = as_state(self.config.at_open)
        if state != "leave":
            await self.in_thread(self.config.switch_relays, state == "on")


@dataclass(kw_only=True, eq=False)
class _BoardRelay(RemoteOutlet):
    """A relay of a board, or all of them as one. Opening and closing it switch nothing; see `at_open`."""

    core_of: ClassVar[type[RelayBoardCore]] = RelayBoardCore

    channel: Channel = 1
    at_open: State | bool = "leave"
    """What the exporter's first use of it does to the relay."""
    timeout: float = 3.0

    @abstractmethod
    def switch_relays(self, on: bool) -> None:
        """Switch once. Blocking.

        Raises what `send` raises, and DeviceMissing, DeviceBusy and DeviceFailed.
        """

    @abstractmethod
    def read_relays(self) -> list[bool | None]:
        """Return the states of the relays. Blocking; raises as `switch_relays`."""

    @abstractmethod
    def describe_hardware(self) -> str:
        """Find the board. Nothing is sent to it."""

    @property
    @abstractmethod
    def board_label(self) -> str:
        """The kind of board, and where it is."""

    @property
    def label(self) -> str:
        """The relay and the board."""
        return f"{_relays(self.channel)} of the {self.board_label}"

    async def open(self) -> None:
        """Find the board; see `describe_hardware`."""
        self.logger.info("%s", await self.in_thread(self.describe_hardware))

    async def send(self, *, on: bool) -> None:
        """Switch once."""
        await self.in_thread(self.switch_relays, on)

    async def is_on(self) -> bool | None:
        """The state that all of the relays have."""
        states = set(await self.in_thread(self.read_relays))
        return states.pop() if len(states) == 1 else None

    async def state_text(self) -> str:
        """Like `is_on`, and partial if some of the relays are on."""
        states = set(await self.in_thread(self.read_relays))
        if None in states:
            return "unknown"
        return "partial" if len(states) > 1 else "on" if True in states else "off"


@dataclass(kw_only=True, eq=False)
class HidRelay(_BoardRelay):
    """A relay of a board that is a HID device.

        export:
          power:
            type: relay_power.HidRelay
            config:
              board: dcttech     # README.md lists them
              channel: 1         # as printed on the board, or all
              serial: BITFT      # or `port: 1-1.4`; left out if there is only one board of the kind

    Opening and closing it switch nothing.
    """

    packages: ClassVar[tuple[str, ...]] = ("usb",)

    board: str
    serial: str | None = None
    port: str | None = None
    """The USB port, as sysfs names it."""

    def __post_init__(self) -> None:
        """Find the row."""
        super().__post_init__()
        if self.board not in HID_BOARDS:
            raise ValueError(f"board is {self.board!r}; {nearest(self.board, HID_BOARDS)}")
        self._prepare(HID_BOARDS[self.board])

    def _prepare(self, row: HidBoard) -> None:
        self._row = row
        if self.channel != "all" and not 1 <= self.channel <= row.count:
            raise ValueError(f"channel is {self.channel}; a {row.label} has 1 to {row.count}, or write all")

    @classmethod
    def host_nodes(cls, values: Mapping[str, Any]) -> Sequence[str]:
        """The USB port, if one is named."""
        return [str(port)] if (port := values.get("port")) is not None else []

    @property
    def search(self) -> UsbSearch:
        """Which board is meant."""
        return UsbSearch(self._row.label, self._row.ids, self._row.product, self.serial, self.port)

    @property
    def board_label(self) -> str:
        """The kind, and what of the place is configured."""
        where = " ".join(one for one in (self.serial, f"at {self.port}" if self.port else "") if one)
        return f"{self._row.label} {where}".rstrip()

    @property
    def tells_state(self) -> bool:
        """If there is a question for it."""
        return self._row.read is not None

    def look_at_hardware(self) -> str:
        """Find the board; only one of the kind, if its id is not in its descriptor."""
        search = self.search
        every = matching_devices(search)
        if self.serial is not None and self._row.board_id is not None and every:
            return ""
        device = find_usb_device(search, every)
        check_access(device)
        return f"there is a {self._row.label} at {device}"

    def describe_hardware(self) -> str:
        """Find the board. If its id is not in its descriptor, it is asked for it."""
        device = self._find()
        relays = _relays(self.channel)
        self._numbers(device)
        return (
            f"{relays} of the {self._row.label} at {device}, which has {self._row.count_of(device.product)}"
        )

    def switch_relays(self, on: bool) -> None:
        """Send the command of each relay."""

        def switch(connection: UsbConnection, numbers: Sequence[int]) -> None:
            for n in numbers:
                _exchange(connection, self._row.switch(n, on))

        self._with_board(switch)

    def read_relays(self) -> list[bool | None]:
        """Ask for each relay."""

        def read(connection: UsbConnection, numbers: Sequence[int]) -> list[bool | None]:
            return [self._read(connection, n) for n in numbers]

        return self._with_board(read)

    def _read(self, connection: UsbConnection, n: int) -> bool | None:
        row = self._row
        assert row.read is not None
        answer = _exchange(connection, row.read(n))
        for _ in range(row.reports - 1):
            if row.state(answer, n) is None:
                answer += connection.read_report()
        return row.state(answer, n)

    def _with_board(self, use: Callable[[UsbConnection, Sequence[int]], T]) -> T:
        device = self._find()
        numbers = self._numbers(device)
        try:
            with open_usb_device(device, self._row.label, claims=self._row.claims) as connection:
                return use(connection, numbers)
        except UsbTransferError as error:
            raise OutletUnreachable(str(error)) from error

    def _find(self) -> UsbDevice:
        row = self._row
        if self.serial is None or row.board_id is None or row.read is None:
            return find_usb_device(self.search)
        every = []
        for device in matching_devices(self.search):
            try:
                with open_usb_device(device, row.label, claims=row.claims) as connection:
                    answer = _exchange(connection, row.read(1))
            except UsbTransferError as error:
                raise OutletUnreachable(str(error)) from error
            every.append(replace(device, serial=row.board_id(answer)))
        return find_usb_device(self.search, every)

    def _numbers(self, device: UsbDevice) -> list[int]:
        count = self._row.count_of(device.product)
        if self.channel == "all":
            return list(range(1, count + 1))
        if self.channel > count:
            raise OutletRefused(
                f"the {self._row.label} at {device} has {count} relays and no {self.channel}; correct `channel`"
            )
        return [self.channel]


@dataclass(kw_only=True, eq=False)
class RelayBoard(Composite):
    """All relays of a board that is a HID device, as its children `relay1`, `relay2` and so on.

        export:
          relays:
            type: relay_power.RelayBoard
            config:
              board: dcttech     # and serial or port, as for HidRelay
              channels: 4        # how many it has

    Opening and closing it switch nothing.
    """

    packages: ClassVar[tuple[str, ...]] = ("usb",)

    board: str
    channels: int
    serial: str | None = None
    port: str | None = None

    @classmethod
    def parts(cls, values: Mapping[str, Any]) -> Mapping[str, Spec]:
        """The relays."""
        shared = {key: values.get(key) for key in ("board", "serial", "port")}
        count = min(int(values.get("channels", 0)), MAX_CHANNELS)
        return {f"relay{n}": Spec(HidRelay, {**shared, "channel": n}) for n in range(1, count + 1)}

    def __post_init__(self) -> None:
        """Check the number; the relays check the rest."""
        super().__post_init__()
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise ValueError(f"channels is {self.channels}; it takes 1 to {MAX_CHANNELS}")


@dataclass(kw_only=True, eq=False)
class Ykush(HidRelay):
    """A port of a YKUSH, a hub that switches the power of its ports: Jumpstarter 0.9's driver, with its keys.

        export:
          power:
            type: relay_power.Ykush
            config:
              serial: YK25838    # left out if there is only one
              port: "1"          # 1, 2, 3 or all
              default: "off"     # on | off | keep: with the exporter's first use of it

    Closing it switches nothing.
    """

    board: str = "ykush"
    port: str | int | None = "all"  # type: ignore[assignment]
    default: Literal["on", "off", "keep"] | bool = "off"
    usb_port: str | None = None
    """The USB port of the YKUSH's control, as sysfs names it, where serial numbers do not tell."""

    def __post_init__(self) -> None:
        """Convert the keys. ValueError names the wrong one."""
        if str(self.port) not in ("1", "2", "3", "all"):
            raise ValueError(f"port is {self.port!r}; it takes 1, 2, 3 or all")
        self.channel = "all" if self.port == "all" else int(self.port or 0)
        self.at_open = "leave" if self.default == "keep" else as_state(self.default)
        super().__post_init__()

    @classmethod
    def host_nodes(cls, values: Mapping[str, Any]) -> Sequence[str]:
        """The USB port, if one is named."""
        return [str(port)] if (port := values.get("usb_port")) is not None else []

    @property
    def search(self) -> UsbSearch:
        """Which YKUSH is meant."""
        return UsbSearch(
            self._row.label, self._row.ids, serial=self.serial, port=self.usb_port, port_key="usb_port"
        )

    @property
    def board_label(self) -> str:
        """The serial number, or the place."""
        where = " ".join(one for one in (self.serial, f"at {self.usb_port}" if self.usb_port else "") if one)
        return f"{self._row.label} {where}".rstrip()

    async def reset(self) -> None:
        """Switch to `default`."""
        state = as_state(self.at_open)
        if state != "leave":
            await self._run(self.on if state == "on" else self.off)


@dataclass(kw_only=True, eq=False)
class NoyitoPowerHID(HidRelay):
    """Jumpstarter 0.9's driver for Noyito's boards with 4 and 8 relays, which are HID devices: its keys.

    Opening and closing it switch nothing.
    """

    client: ClassVar[str] = "jumpstarter_driver_noyito_relay.client.NoyitoPowerClient"

    board: str = "lcus"
    vendor_id: int | str = 5131
    product_id: int | str = 2007
    num_channels: Literal[4, 8] = 4
    all_channels: bool = False

    def __post_init__(self) -> None:
        """Convert the keys. ValueError names the wrong one."""
        if self.all_channels:
            self.channel = "all"
        super().__post_init__()

    def _prepare(self, row: HidBoard) -> None:
        super()._prepare(
            replace(row, count=self.num_channels, ids=_noyito_ids(self.vendor_id, self.product_id))
        )


@dataclass(kw_only=True, eq=False)
class SerialRelay(_BoardRelay):
    """A relay of a board that is a serial port.

        export:
          power:
            type: relay_power.SerialRelay
            config:
              board: lcus        # README.md lists them
              port: /dev/serial/by-path/platform-...-usb-0:1.3:1.0-port0
              channel: 1         # as printed on the board, or all
              channels: 2        # how many it has

    Opening and closing it switch nothing.
    """

    packages: ClassVar[tuple[str, ...]] = ("serial",)

    board: str
    port: str
    channels: int | None = None

    def __post_init__(self) -> None:
        """Find the row, and check the numbers."""
        super().__post_init__()
        if self.board not in SERIAL_BOARDS:
            raise ValueError(f"board is {self.board!r}; {nearest(self.board, SERIAL_BOARDS)}")
        if not self.port:
            raise ValueError("port is empty; it takes a serial port, such as /dev/serial/by-path/...")
        row: SerialBoard = SERIAL_BOARDS[self.board]
        self._row = row
        self._count = row.count if self.channels is None else self.channels
        if not 1 <= self._count <= row.max_count or (row.counts and self._count not in row.counts):
            known = ", ".join(map(str, row.counts)) or f"1 to {row.max_count}"
            raise ValueError(f"channels is {self._count}; a {row.label} has {known}")
        self._numbers = range(row.first, row.first + self._count)
        if self.channel != "all":
            if self.channel not in self._numbers:
                raise ValueError(
                    f"channel is {self.channel}; with channels: {self._count} it takes "
                    f"{self._numbers[0]} to {self._numbers[-1]}, or all"
                )
            self._numbers = range(self.channel, self.channel + 1)

    @classmethod
    def host_nodes(cls, values: Mapping[str, Any]) -> Sequence[str]:
        """The port."""
        return [port] if (port := str(values.get("port", ""))).startswith("/dev/") else []

    @property
    def board_label(self) -> str:
        """The kind and the port."""
        return f"{self._row.label} at {self.port}"

    @property
    def tells_state(self) -> bool:
        """If there is a question for it."""
        return self._row.read is not None

    def describe_hardware(self) -> str:
        """Find the port. It is not opened, as some boards react to that."""
        try:
            os.stat(self.port)
        except OSError as error:
            raise explain_open_error(self.port, error, f"the port of a {self._row.label}") from error
        return self.label

    def switch_relays(self, on: bool) -> None:
        """Send the command of each relay."""
        row = self._row
        with open_line(self.port, row.baudrate, row.label) as line:
            for n in self._numbers:
                if row.wake and row.done:
                    line.send(row.wake)
                    line.receive(row.done)
                line.send(row.switch(n, on, self._count))
                if row.done:
                    line.receive(row.done)

    def read_relays(self) -> list[bool | None]:
        """Ask for each relay."""
        row = self._row
        assert row.read is not None
        states = []
        with open_line(self.port, row.baudrate, row.label) as line:
            for n in self._numbers:
                if row.wake and row.done:
                    line.send(row.wake)
                    line.receive(row.done)
                line.send(row.read(n, self._count))
                answer = line.receive(partial(_says_state, row, n))
                states.append(row.state(answer, n))
        return states


@dataclass(kw_only=True, eq=False)
class NoyitoPowerSerial(SerialRelay):
    """Jumpstarter 0.9's driver for Noyito's board with two relays on a serial port: its keys.

    Opening and closing it switch nothing.
    """

    client: ClassVar[str] = "jumpstarter_driver_noyito_relay.client.NoyitoPowerClient"

    board: str = "noyito"
    all_channels: bool = False

    def __post_init__(self) -> None:
        """Convert the keys. ValueError names the wrong one."""
        if self.all_channels:
            self.channel = "all"
        super().__post_init__()


def _exchange(connection: UsbConnection, message: ControlTransfer | Report) -> bytes:
    if isinstance(message, Report):
        if message.answers:
            connection.drop_reports()
        connection.write_report(message.data)
        return connection.read_report() if message.answers else b""
    if message.length:
        return connection.control_in(message.request_type, message.request, message.value, 0, message.length)
    connection.control_out(message.request_type, message.request, message.value, 0, message.data)
    return b""


def _says_state(row: SerialBoard, n: int, answer: bytes) -> bool:
    return row.state(answer, n) is not None


def _noyito_ids(vendor: int | str, product: int | str) -> tuple[str, ...]:
    """Hex ids. The defaults of 0.9 are hex digits that were written as decimal numbers, so both are meant."""
    if isinstance(vendor, int) and isinstance(product, int):
        return f"{vendor:04}:{product:04}", f"{vendor:04x}:{product:04x}"
    try:
        numbers = [one if isinstance(one, int) else int(one, 16) for one in (vendor, product)]
    except ValueError:
        raise ValueError(
            f"vendor_id and product_id are {vendor!r} and {product!r}; they take hex digits, such as '5131'"
        ) from None
    return (":".join(f"{one:04x}" for one in numbers),)


def _relays(channel: Channel) -> str:
    return "all relays" if channel == "all" else f"relay {channel}"
