"""SD multiplexers on USB for tests: below sysfs, pyusb and SG_IO, each with a file for its card.

At the host the card is the file `dev/sda`; at the board that is an empty file, or not there.
"""

from __future__ import annotations

import ctypes
import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from usb.core import USBError

from tests.support.usb_boards import BoardBackend, PluggedBoard

__all__ = ["Card", "SdWire", "SdWire3", "UsbSdMux"]


@dataclass
class Card:
    """A card, and the reader in which it is or not."""

    node: Path
    removes_node: bool = False
    is_at_host: bool = False

    def __post_init__(self) -> None:
        self.node.parent.mkdir(parents=True, exist_ok=True)
        self._away = self.node.with_name(f"{self.node.name}-away")
        self._away.write_bytes(bytes(4096))
        if not self.removes_node:
            self.node.touch()

    @property
    def content(self) -> bytes:
        """What is on it."""
        return (self.node if self.is_at_host else self._away).read_bytes()

    def move(self, *, to_host: bool) -> None:
        """Connect it to the reader, or not."""
        if to_host is self.is_at_host:
            return
        self.is_at_host = to_host
        if to_host:
            self._away.replace(self.node)
            return
        self.node.replace(self._away)
        if not self.removes_node:
            self.node.touch()


def _reader(usb_device: Path, model: str) -> None:
    unit = usb_device / f"{usb_device.name}:1.0/host0/target0:0:0/0:0:0:0"
    for part in ("block/sda", "scsi_generic/sg0"):
        (unit / part).mkdir(parents=True)
    (unit / "model").write_text(f"{model}\n")


@dataclass(eq=False, kw_only=True)
class Mux(PluggedBoard):
    """A mux with its card. `behaviour` may be `unprogrammed`: it takes commands and does nothing."""

    driver: str = "usb-storage"
    card: Card = field(init=False)

    @property
    def side(self) -> str:
        """Where the card is."""
        return "host" if self.card.is_at_host else "dut"

    def unplug(self) -> None:
        """Pull it out, with its reader."""
        super().unplug()
        if self.card.is_at_host:
            self.card.move(to_host=False)
        self.card.node.unlink(missing_ok=True)


@dataclass(eq=False, kw_only=True)
class SdWire(Mux):
    """An FT200X, and a reader beside it behind a hub."""

    port: str = "1-1.2"
    ids: str = "04e8:6001"
    product: str = "sd-wire"
    serial: str = "sdw-7"
    driver: str = "ftdi_sio"
    hub: str = "0424:2640"

    def plug(self, host: BoardBackend) -> SdWire:
        above, _, _ = self.port.rpartition(".")
        vendor, product = self.hub.split(":")
        usb1 = host.bus.root / "sys/devices/pci0000:00/usb1"
        hub = host.bus.device(above, usb1, {"idVendor": vendor, "idProduct": product})
        host.plug(self, hub)
        reader = host.bus.device(f"{above}.1", hub, {"idVendor": "0424", "idProduct": "4050"})
        _reader(reader, "USB2642")
        self.card = Card(host.bus.root / "dev/sda")
        return self

    def control(self, kind: int, request: int, value: int, data: bytes) -> bytes:
        if (kind, request) == (0x40, 0x0B) and value in (0x20F0, 0x20F1):
            if self.behaviour != "unprogrammed":
                self.card.move(to_host=value == 0x20F1)
            return b""
        if (kind, request, value) == (0xC0, 0x0C, 0):
            return bytes([0x20 | self.card.is_at_host])
        return super().control(kind, request, value, data)


@dataclass(eq=False, kw_only=True)
class SdWire3(Mux):
    """A stock reader that has the card after a reset with its driver bound."""

    ids: str = "0bda:0316"
    product: str = "USB3.0-CRW"
    serial: str = "20120501030900000"

    def plug(self, host: BoardBackend) -> SdWire3:
        host.plug(self)
        _reader(self.directory.resolve(), "SD/MMC")
        self.card = Card(host.bus.root / "dev/sda", removes_node=True)
        self.card.move(to_host=True)
        return self

    def reset(self) -> None:
        self.card.move(to_host=self.kernel_driver is not None)
        if self.behaviour == "renumbers":
            raise USBError("Entity not found", -5, errno.ENOENT)


@dataclass(eq=False, kw_only=True)
class UsbSdMux(Mux):
    """A USB2642 with an expander at its I2C bus, after power-on: all pins are inputs, and the card is at the board."""

    ids: str = "0424:4041"
    product: str = "usb-sd-mux_rev2"
    serial: str = "000000000042"
    is_fast: bool = False
    registers: dict[int, int] = field(default_factory=lambda: {1: 0xFF, 3: 0xFF})
    written: list[tuple[int, int]] = field(default_factory=list)

    def plug(self, host: BoardBackend) -> UsbSdMux:
        host.plug(self)
        _reader(self.directory.resolve(), f"{'sdFST' if self.is_fast else 'sdmux'} HS-SD/MMC")
        self.card = Card(host.bus.root / "dev/sda")
        self.node = host.bus.root / "dev/sg0"
        self.node.touch()
        return self

    @property
    def side(self) -> str:
        if self._pin("power_off"):
            return "off"
        return "dut" if self._pin("dut") else "host"

    def _pin(self, name: str) -> bool:
        bits = (
            {"dut": 0, "power_off": 1, "data_off": 2}
            if self.is_fast
            else {"dut": 2, "power_off": 1, "data_off": 0}
        )
        bits["removed"] = 3
        bit = 1 << bits[name]
        if self.registers[3] & bit:  # an input, whose level is that of its resistor
            return name in ("dut", "removed")
        return bool(self.registers[1] & bit)

    def unplug(self) -> None:
        super().unplug()
        self.node.unlink()

    def ioctl(self, descriptor: int, request: int, header: Any) -> int:
        """SG_IO, in the place of the system's call."""
        assert request == 0x2285
        if os.readlink(f"/proc/self/fd/{descriptor}") != str(self.node) or not self.node.exists():
            raise OSError(errno.ENODEV, "No such device")
        command = ctypes.string_at(header.cmdp, header.cmd_len)
        data = (ctypes.c_ubyte * header.dxfer_len).from_address(header.dxferp)
        address = 0x20 if self.is_fast else 0x41
        if len(command) != 16 or len(data) != 512 or command[0] != 0xCF or command[2] != address << 1:
            header.status = 2
        elif command[1] == 0x23 and command[5] == 2:
            self._write(data[0], data[1])
        elif command[1] == 0x22 and command[3] == (address << 1) + 1 and command[6] == 1:
            data[0] = self._read(command[7])
        return 0

    def _read(self, register: int) -> int:
        if register != 0:
            return self.registers[register]
        names = ("dut", "power_off", "data_off", "removed")
        bits = (0, 1, 2, 3) if self.is_fast else (2, 1, 0, 3)
        return sum(1 << bit for name, bit in zip(names, bits, strict=True) if self._pin(name)) | 0xF0

    def _write(self, register: int, value: int) -> None:
        was = self.side, self._pin("dut")
        self.written.append((register, value))
        if self.behaviour == "unprogrammed":
            return
        self.registers[register] = value
        if was[1] is not self._pin("dut"):
            assert self.side == "off" or was[0] == "off", "a card with power was moved"
        self.card.move(to_host=self.side == "host" and not self._pin("removed"))
