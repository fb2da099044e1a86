"""Relay boards on USB for tests: their sysfs as plain files, and a backend of pyusb's that answers as they do.

Bytes are from the makers' documents and programs, not from our tables.
"""

from __future__ import annotations

import errno
import shutil
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import usb.backend
from usb.core import USBError, USBTimeoutError

from tests.support.usb_hubs import Bus

__all__ = [
    "BoardBackend",
    "Dcttech",
    "EnerGenieStrip",
    "LcusHid",
    "PluggedBoard",
    "Ucreatefun",
    "YkushBoard",
    "YkushXs",
]


@dataclass(eq=False, kw_only=True)
class PluggedBoard:
    """One device. `behaviour` is how it differs from an honest one."""

    port: str = "1-1"
    ids: str = ""
    product: str = ""
    serial: str = ""
    behaviour: str = ""
    permitted: bool = True
    has_interface: bool = True
    """False if another process has claimed it."""
    driver: str = "usbhid"
    """The kernel's driver for it."""
    kernel_driver: str | None = None
    """The one that is bound; from the beginning."""
    on: set[int] = field(default_factory=set)
    """The relays that are on."""
    received: list[bytes] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    """Input reports that nobody has read yet."""
    bus: Bus = field(init=False)
    address: int = 0

    @property
    def directory(self) -> Path:
        return self.bus.devices / self.port

    def control(self, kind: int, request: int, value: int, data: bytes) -> bytes:
        """A control transfer."""
        raise USBError("Pipe error", -9, errno.EPIPE)

    def report(self, data: bytes) -> None:
        """An output report."""
        raise USBError("Pipe error", -9, errno.EPIPE)

    def reset(self) -> None:
        """A reset of the port."""

    def check(self) -> None:
        """Be there, and answer."""
        if not self.directory.exists():
            raise USBError("No such device (it may have been disconnected)", -4, errno.ENODEV)
        if self.behaviour == "silent":
            raise USBTimeoutError("Operation timed out", -7, errno.ETIMEDOUT)

    def switch(self, relay: int, *, on: bool) -> None:
        """What the board does with a command."""
        if self.behaviour == "vanishes":
            self.unplug()
        elif self.behaviour != "stuck":
            (self.on.add if on else self.on.discard)(relay)

    def unplug(self) -> None:
        """Pull it out."""
        real = self.directory.resolve()
        self.directory.unlink()
        shutil.rmtree(real)


class Dcttech(PluggedBoard):
    """dcttech's firmware: feature reports only, with an id that is not in the descriptor."""

    board_id = b"BITFT"

    def control(self, kind: int, request: int, value: int, data: bytes) -> bytes:
        if (kind, request, value) == (0x20, 9, 0x0300) and data[0] in (0xFF, 0xFD):
            self.switch(data[1], on=data[0] == 0xFF)
            return b""
        if (kind, request, value) == (0xA0, 1, 0x0300):
            return self.board_id + b"\0\0" + bytes([sum(1 << n - 1 for n in self.on)])
        return super().control(kind, request, value, data)


class YkushBoard(PluggedBoard):
    """Yepkit's YKUSH: reports of 64 bytes, each with an answer."""

    length = 64

    def report(self, data: bytes) -> None:
        if len(data) != self.length:
            raise USBError("Overflow", -8, errno.EOVERFLOW)
        command, port = data[0] & 0xF0, data[0] & 0x0F
        if command in (0x00, 0x10):
            for one in (1, 2, 3) if port == 0x0A else (port,):
                self.switch(one, on=command == 0x10)
            self.answers.append(bytes([1, data[0]]))
        elif command == 0x20:
            self.answers.append(bytes([1, 0x10 * (port in self.on) + port]))


class YkushXs(PluggedBoard):
    """Its sister with one port."""

    def report(self, data: bytes) -> None:
        if data[0] in (0x01, 0x11):
            self.switch(1, on=data[0] == 0x11)
            self.answers.append(bytes([1]))
        elif data[0] == 0x21:
            self.answers.append(bytes([1, 0x11 if self.on else 0x01]))


class LcusHid(PluggedBoard):
    """Noyito's and LCUS' boards with 4 and 8 relays: the state is text, of which a report holds 64 bytes."""

    count = 8

    def report(self, data: bytes) -> None:
        head, relay, command, checksum = data
        if head != 0xA0 or checksum != sum(data[:3]) & 0xFF:
            return
        if (relay, command) == (0x0F, 2):
            text = "".join(f"CH{n}:{'ON' if n in self.on else 'OFF'}\r\n" for n in range(1, self.count + 1))
            self.answers += [text[start : start + 64].encode() for start in range(0, len(text), 64)]
        else:
            self.switch(relay, on=command == 1)


class Ucreatefun(PluggedBoard):
    """One byte for all; the state cannot be read."""

    def report(self, data: bytes) -> None:
        self.switch(data[0] & 0x0F, on=data[0] & 0xF0 == 0xF0)


class EnerGenieStrip(PluggedBoard):
    """A power strip with switched sockets: feature reports to the interface."""

    def control(self, kind: int, request: int, value: int, data: bytes) -> bytes:
        socket = (value - 0x0300) // 3
        if (kind, request) == (0x21, 9) and data[0] == 3 * socket:
            self.switch(socket, on=data[1] == 3)
            return b""
        if (kind, request) == (0xA1, 1):
            return bytes([3 * socket, socket in self.on, 0, 0, 0])
        return super().control(kind, request, value, data)


class BoardBackend(usb.backend.IBackend):  # type: ignore[misc]
    """In the place of libusb's: finds what is plugged in, and lets it answer."""

    def __init__(self, bus: Bus) -> None:
        super().__init__()
        self.bus = bus
        self.boards: list[PluggedBoard] = []
        self.open = 0
        """How many devices are open."""
        self.before: Callable[[PluggedBoard], None] = lambda _: None
        """Called before each transfer."""

    def plug(self, board: PluggedBoard, above: Path | None = None) -> PluggedBoard:
        """Plug a device in, below the folder of that hub."""
        board.kernel_driver = board.driver
        board.bus, board.address = self.bus, len(self.boards) + 20
        vendor, product = board.ids.split(":")
        attributes = {"bDeviceClass": "00", "idVendor": vendor, "idProduct": product, "busnum": "1"}
        attributes |= {"devnum": str(board.address)}
        attributes |= {key: text for key in ("product", "serial") if (text := getattr(board, key))}
        self.bus.device(board.port, above or self.bus.root / "sys/devices/pci0000:00/usb1", attributes)
        self.boards.append(board)
        return board

    def enumerate_devices(self) -> Iterator[PluggedBoard]:
        return iter([one for one in self.boards if one.directory.exists()])

    def get_parent(self, dev: PluggedBoard) -> None:
        return None

    def get_device_descriptor(self, dev: PluggedBoard) -> Any:
        vendor, product = (int(one, 16) for one in dev.ids.split(":"))
        return SimpleNamespace(
            bLength=18, bDescriptorType=1, bcdUSB=0x0200, bDeviceClass=0, bDeviceSubClass=0, bDeviceProtocol=0,
            bMaxPacketSize0=8, idVendor=vendor, idProduct=product, bcdDevice=0x0100, iManufacturer=0, iProduct=0,
            iSerialNumber=0, bNumConfigurations=1, address=dev.address, bus=1, port_number=None,
            port_numbers=None, speed=1,
        )  # fmt: skip

    def get_configuration_descriptor(self, dev: PluggedBoard, config: int) -> Any:
        if config:
            raise IndexError
        return SimpleNamespace(
            bLength=9, bDescriptorType=2, wTotalLength=41, bNumInterfaces=1, bConfigurationValue=1,
            iConfiguration=0, bmAttributes=0x80, bMaxPower=50, extra_descriptors=[],
        )  # fmt: skip

    def get_interface_descriptor(self, dev: PluggedBoard, intf: int, alt: int, config: int) -> Any:
        if intf or alt:
            raise IndexError
        return SimpleNamespace(
            bLength=9, bDescriptorType=4, bInterfaceNumber=0, bAlternateSetting=0, bNumEndpoints=2,
            bInterfaceClass=3, bInterfaceSubClass=0, bInterfaceProtocol=0, iInterface=0, extra_descriptors=[],
        )  # fmt: skip

    def get_endpoint_descriptor(self, dev: PluggedBoard, ep: int, intf: int, alt: int, config: int) -> Any:
        return SimpleNamespace(
            bLength=7, bDescriptorType=5, bEndpointAddress=(0x81, 0x01)[ep], bmAttributes=3, wMaxPacketSize=64,
            bInterval=10, bRefresh=0, bSynchAddress=0, extra_descriptors=[],
        )  # fmt: skip

    def open_device(self, dev: PluggedBoard) -> PluggedBoard:
        if not dev.permitted:
            raise USBError("Access denied (insufficient permissions)", -3, errno.EACCES)
        self.open += 1
        return dev

    def close_device(self, dev_handle: PluggedBoard) -> None:
        self.open -= 1

    def get_configuration(self, dev_handle: PluggedBoard) -> int:
        return 1

    def claim_interface(self, dev_handle: PluggedBoard, intf: int) -> None:
        if dev_handle.kernel_driver is not None or not dev_handle.has_interface:
            raise USBError("Resource busy", -6, errno.EBUSY)

    def release_interface(self, dev_handle: PluggedBoard, intf: int) -> None:
        dev_handle.check()

    def is_kernel_driver_active(self, dev_handle: PluggedBoard, intf: int) -> bool:
        return dev_handle.kernel_driver is not None

    def detach_kernel_driver(self, dev_handle: PluggedBoard, intf: int) -> None:
        dev_handle.kernel_driver = None

    def attach_kernel_driver(self, dev_handle: PluggedBoard, intf: int) -> None:
        dev_handle.check()
        dev_handle.kernel_driver = dev_handle.driver

    def reset_device(self, dev_handle: PluggedBoard) -> None:
        dev_handle.reset()

    def ctrl_transfer(
        self,
        dev_handle: PluggedBoard,
        bmRequestType: int,  # noqa: N803 - pyusb's names
        bRequest: int,  # noqa: N803
        wValue: int,  # noqa: N803
        wIndex: int,  # noqa: N803
        data: array[int],
        timeout: int,
    ) -> int:
        self.before(dev_handle)
        dev_handle.check()
        answer = dev_handle.control(bmRequestType, bRequest, wValue, bytes(data))[: len(data)]
        for place, byte in enumerate(answer):
            data[place] = byte
        return len(answer) if bmRequestType & 0x80 else len(data)

    def intr_write(self, dev_handle: PluggedBoard, ep: int, intf: int, data: array[int], timeout: int) -> int:
        self.before(dev_handle)
        dev_handle.check()
        dev_handle.received.append(bytes(data))
        dev_handle.report(bytes(data))
        return len(data)

    def intr_read(self, dev_handle: PluggedBoard, ep: int, intf: int, buff: array[int], timeout: int) -> int:
        dev_handle.check()
        if not dev_handle.answers:
            raise USBTimeoutError("Operation timed out", -7, errno.ETIMEDOUT)
        answer = dev_handle.answers.pop(0)
        for place, byte in enumerate(answer):
            buff[place] = byte
        return len(answer)
