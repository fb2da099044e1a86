"""USB hubs for tests: a sysfs of plain files below a folder, and a backend of pyusb's that answers as such hubs do.

`Bus(folder)` is a host without hubs; `bus.hub(...)` plugs one in. The code under test sees the files, also through
umockdev's preloaded library, and the `Backend` in the place of libusb.
"""

from __future__ import annotations

import errno
import os
import shutil
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import usb.backend
from usb.core import USBError

__all__ = ["Backend", "Bus", "Hub"]

PER_PORT, GANGED, NO_SWITCHING = 0x0009, 0x0000, 0x0002


@dataclass(eq=False)
class Hub:
    """One hub. `behaviour` is how it differs from an honest one."""

    bus: Bus
    name: str
    superspeed: bool
    ports: int
    characteristics: int
    attribute: bool
    container_id: str
    behaviour: str
    claimed_ports: int | None
    device_number: int
    permitted: bool = True
    powered: dict[int, bool] = field(default_factory=dict)
    connected: set[int] = field(default_factory=set)
    requests: list[tuple[str, int]] = field(default_factory=list)
    """What it was told: `on` or `off`, and the port."""

    @property
    def is_root(self) -> bool:
        return self.name.startswith("usb")

    @property
    def directory(self) -> Path:
        return self.bus.devices / self.name

    @property
    def node(self) -> Path:
        return self.bus.root / f"dev/bus/usb/{self.number:03}/{self.device_number:03}"

    @property
    def number(self) -> int:
        """Of its bus."""
        return int(self.name.removeprefix("usb").partition("-")[0])

    def port(self, number: int) -> Path:
        number_of_bus = self.name.removeprefix("usb")
        interface = f"{number_of_bus}-0:1.0" if self.is_root else f"{self.name}:1.0"
        return self.directory / interface / f"{self.name}-port{number}"

    def child(self, number: int) -> str:
        return f"{self.number}-{number}" if self.is_root else f"{self.name}.{number}"

    def disabled(self, number: int) -> str:
        """What its attribute says."""
        return (self.port(number) / "disable").read_text()

    def plug(self, number: int, **attributes: str) -> Path:
        """A device that is no hub, in a port."""
        self.connected.add(number)
        return self.bus.device(
            self.child(number), self.directory, {"bDeviceClass": "00", "product": "Board", **attributes}
        )

    def is_on(self, port: int) -> bool:
        """What the hub says."""
        if self.behaviour == "stays on":
            return True
        told = [self._is_told_on(number) for number in range(1, self.ports + 1)]
        return all(told) if self.behaviour == "ganged" else told[port - 1]

    def is_connected(self, port: int) -> bool:
        return port in self.connected and (self.is_on(port) or self.behaviour == "stays connected")

    def _is_told_on(self, port: int) -> bool:
        if self.attribute:
            return self.disabled(port).strip() == "0"
        return self.powered.get(port, True)

    def answer(self, kind: int, request: int, value: int, index: int) -> bytes:
        """To a control transfer. USBError as from libusb."""
        if not self.directory.exists() or self.behaviour == "silent":
            raise USBError("No such device (it may have been disconnected)", -4, errno.ENODEV)
        descriptor = 0x2A00 if self.superspeed else 0x2900
        if (kind, request, value) == (0xA0, 6, descriptor):
            ports = self.claimed_ports or self.ports
            body = bytes([descriptor >> 8, ports, *self.characteristics.to_bytes(2, "little"), 50, 0])
            return bytes([12]) + body + bytes(5) if self.behaviour != "nonsense" else b"\x00\x00"
        if (kind, request) == (0xA3, 0):
            if self.behaviour == "vanishes" and self.attribute and not self._is_told_on(index):
                self.unplug()
                raise USBError("No such device (it may have been disconnected)", -4, errno.ENODEV)
            bit = 0x0200 if self.superspeed else 0x0100
            word = bit * self.is_on(index) | self.is_connected(index)
            if self.behaviour == "comes back":
                self.powered[index] = True
            return word.to_bytes(2, "little") + bytes(2)
        if kind == 0x23 and request in (1, 3) and value == 8:
            self.requests.append(("on" if request == 3 else "off", index))
            if self.behaviour == "vanishes":
                self.unplug()
            if self.behaviour in ("stalls", "vanishes"):
                code = errno.EPIPE if self.behaviour == "stalls" else errno.ENODEV
                raise USBError("Pipe error", -9, code)
            self.powered[index] = request == 3
            return b""
        if (kind, request, value) == (0x80, 6, 0x0F00) and self.container_id:
            capability = bytes([20, 0x10, 4, 0]) + bytes.fromhex(self.container_id)
            extension = bytes([7, 0x10, 2, 2, 0, 0, 0])
            return bytes([5, 0x0F, 5 + 27, 0, 2]) + extension + capability
        raise USBError("Pipe error", -9, errno.EPIPE)

    def unplug(self) -> None:
        """With everything below it."""
        self.bus.hubs.pop(self.name, None)
        real = self.directory.resolve()
        for link in list(self.bus.devices.iterdir()):
            if link.resolve().is_relative_to(real):
                link.unlink()
        shutil.rmtree(real)


class Bus:
    """A host's USB, as files below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.devices = root / "sys/bus/usb/devices"
        self.devices.mkdir(parents=True)
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/mountinfo").touch()
        self.hubs: dict[str, Hub] = {}

    def hub(
        self,
        name: str,
        *,
        ports: int = 4,
        superspeed: bool = False,
        characteristics: int = PER_PORT,
        attribute: bool = True,
        container_id: str = "",
        behaviour: str = "",
        claimed_ports: int | None = None,
        ids: str = "0451:8142",
        **attributes: str,
    ) -> Hub:
        """Plug one in. Those above it have to be there."""
        hub = Hub(
            self, name, superspeed, ports, characteristics, attribute, container_id, behaviour, claimed_ports,
            device_number=len(self.hubs) + 1,
        )  # fmt: skip
        above = None if hub.is_root else self.hubs[_above(name)]
        vendor, product = ids.split(":")
        self.device(
            name,
            self.root / "sys/devices/pci0000:00" if above is None else above.directory.resolve(),
            {
                "bDeviceClass": "09",
                "version": " 3.20" if superspeed else " 2.10",
                "speed": "5000" if superspeed else "480",
                "maxchild": str(ports),
                "idVendor": vendor,
                "idProduct": product,
                "busnum": str(hub.number),
                "devnum": str(hub.device_number),
                "product": "Hub",
                **attributes,
            },
        )
        for number in range(1, ports + 1):
            hub.port(number).mkdir(parents=True)
            if attribute:
                (hub.port(number) / "disable").write_text("0\n")
        if above is not None:
            above.connected.add(int(name.replace("-", ".").rpartition(".")[2]))
        self.hubs[name] = hub
        return hub

    def device(self, name: str, above: Path, attributes: dict[str, str]) -> Path:
        """A directory of a device, and its link among all of them."""
        place = above.resolve() / name
        place.mkdir(parents=True)
        for key, value in {"uevent": "DEVTYPE=usb_device", **attributes}.items():
            (place / key).write_text(f"{value}\n")
        (self.devices / name).symlink_to(os.path.relpath(place, self.devices))
        return place

    def root_disk(self, device: Path) -> None:
        """A disk in that device, from which the host runs."""
        place = device / f"{device.name}:1.0/host0/target0:0:0/0:0:0:0/block/sda"
        place.mkdir(parents=True)
        (place / "uevent").write_text("MAJOR=8\nMINOR=0\nDEVNAME=sda\nDEVTYPE=disk\n")
        disks = self.root / "sys/class/block"
        disks.mkdir(parents=True)
        (disks / "sda").symlink_to(os.path.relpath(place, disks))
        (self.root / "proc/self/mountinfo").write_text("21 1 8:0 / / rw - ext4 /dev/sda rw\n")

    def link(self, one: Hub, other: Hub) -> None:
        """What the kernel does when it knows that these are halves of one hub."""
        for number in range(1, min(one.ports, other.ports) + 1):
            for port, peer in (
                (one.port(number), other.port(number)),
                (other.port(number), one.port(number)),
            ):
                (port / "peer").symlink_to(os.path.relpath(peer.resolve(), port.resolve()))

    def pair(self, *, ports: int = 4, linked: bool = True, **options: Any) -> tuple[Hub, Hub]:
        """A USB 3 hub in the first socket of an xHCI controller: its halves 1-1 and 2-1."""
        roots = [self.hub(f"usb{bus}", superspeed=bus == 2, ids=f"1d6b:000{bus + 1}") for bus in (1, 2)]
        self.link(*roots)
        slow, fast = (self.hub(f"{bus}-1", superspeed=bus == 2, ports=ports, **options) for bus in (1, 2))
        if linked:
            self.link(slow, fast)
        return slow, fast


class Backend(usb.backend.IBackend):  # type: ignore[misc]
    """In the place of libusb's: finds the hubs of a bus, and lets them answer."""

    def __init__(self, bus: Bus) -> None:
        super().__init__()
        self.bus = bus
        self.open = 0
        """How many devices are open."""

    def enumerate_devices(self) -> Iterator[Hub]:
        return iter(list(self.bus.hubs.values()))

    def get_parent(self, dev: Hub) -> None:
        return None

    def get_device_descriptor(self, dev: Hub) -> Any:
        return SimpleNamespace(
            bLength=18, bDescriptorType=1, bcdUSB=0x0320 if dev.superspeed else 0x0210, bDeviceClass=9,
            bDeviceSubClass=0, bDeviceProtocol=1, bMaxPacketSize0=64, idVendor=0x0451, idProduct=0x8142,
            bcdDevice=0x0100, iManufacturer=0, iProduct=0, iSerialNumber=0, bNumConfigurations=1,
            address=dev.device_number, bus=dev.number, port_number=None, port_numbers=None, speed=3,
        )  # fmt: skip

    def open_device(self, dev: Hub) -> Hub:
        if not dev.permitted:
            raise USBError("Access denied (insufficient permissions)", -3, errno.EACCES)
        self.open += 1
        return dev

    def close_device(self, dev_handle: Hub) -> None:
        self.open -= 1

    def ctrl_transfer(
        self,
        dev_handle: Hub,
        bmRequestType: int,  # noqa: N803 - pyusb's names
        bRequest: int,  # noqa: N803
        wValue: int,  # noqa: N803
        wIndex: int,  # noqa: N803
        data: array[int],
        timeout: int,
    ) -> int:
        answer = dev_handle.answer(bmRequestType, bRequest, wValue, wIndex)[: len(data)]
        for place, byte in enumerate(answer):
            data[place] = byte
        return len(answer) if bmRequestType & 0x80 else len(data)


def _above(name: str) -> str:
    head, _, tail = name.rpartition(".")
    return head if tail and head else f"usb{name.partition('-')[0]}"
