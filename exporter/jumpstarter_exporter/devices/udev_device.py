"""udev's records of the host's devices. No I/O: `udev_database` reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

__all__ = ["DeviceTree", "UdevDevice", "UsbAddress", "natural_order", "parse_database", "usb_ids"]

_USB_DEVICE = re.compile(r"(?P<bus>\d+)-(?P<ports>\d+(\.\d+)*)")
_USB_INTERFACE = re.compile(r"(?P<device>(usb\d+|\d+-[\d.]+)):(?P<configuration>\d+)\.(?P<interface>\d+)")
_ID = re.compile(r"[0-9a-f]{4}")
_ROOT_HUB = re.compile(r"usb(?P<bus>\d+)")


@dataclass(frozen=True)
class UdevDevice:
    """One device of sysfs, with udev's properties. Texts in them may come from the device itself."""

    path: str
    """Below /sys: `/devices/…/1-1.4/1-1.4:1.0/ttyUSB0/tty/ttyUSB0`."""
    properties: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    """The few files of sysfs that replace properties where udevd does not run, if they were read."""

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    @property
    def subsystem(self) -> str:
        """The kernel's subsystem: tty, block, usb, ..."""
        return self.properties.get("SUBSYSTEM", "")

    @property
    def type(self) -> str:
        """The type within the subsystem: usb_device and usb_interface, disk and partition."""
        return self.properties.get("DEVTYPE", "")

    @property
    def node(self) -> str:
        """Its device node; empty if it has none."""
        node = self.properties.get("DEVNAME", "")
        return node if node.startswith("/") or not node else f"/dev/{node}"

    @property
    def number(self) -> str:
        """The number of its node, as in mount tables: `8:2`. Empty without a node."""
        major, minor = self.properties.get("MAJOR", ""), self.properties.get("MINOR", "")
        return f"{major}:{minor}" if major else ""

    @property
    def links(self) -> list[str]:
        """Stable names of its node, sorted."""
        return sorted(self.properties.get("DEVLINKS", "").split())

    @property
    def is_usb_device(self) -> bool:
        """Or a root hub."""
        return self.subsystem == "usb" and self.type == "usb_device"


@dataclass(frozen=True)
class UsbAddress:
    """Where a USB device is plugged in."""

    port: str
    """Its name in sysfs, `1-1.4`: the bus's number, and the port of each hub. For a root hub `usb1`."""
    socket: str
    """The same with the controller instead of the number, which may change at each start: `0000:01:00.0/usb2/1.4`."""


class DeviceTree:
    """All devices of a host at one time."""

    def __init__(self, devices: Iterable[UdevDevice]) -> None:
        self._by_path = {device.path: device for device in devices}

    def __iter__(self) -> Iterator[UdevDevice]:
        """Every device once, ordered by path, parents before their children."""
        return iter(self._in_order)

    def __len__(self) -> int:
        return len(self._by_path)

    @cached_property
    def _in_order(self) -> tuple[UdevDevice, ...]:
        return tuple(self._by_path[path] for path in sorted(self._by_path, key=natural_order))

    def get(self, path: str) -> UdevDevice | None:
        """The device at that path."""
        return self._by_path.get(path)

    def ancestors(self, device: UdevDevice) -> Iterator[UdevDevice]:
        """The devices above it that udev knows, the nearest first."""
        path = device.path.rpartition("/")[0]
        while path:
            if (found := self._by_path.get(path)) is not None:
                yield found
            path = path.rpartition("/")[0]

    def usb_device(self, device: UdevDevice) -> UdevDevice | None:
        """The USB device that it is, or is a part of."""
        return next((one for one in (device, *self.ancestors(device)) if one.is_usb_device), None)

    def usb_interface(self, device: UdevDevice) -> str | None:
        """The number of its USB interface: two hex digits."""
        for part in reversed(device.path.split("/")):
            if match := _USB_INTERFACE.fullmatch(part):
                return f"{int(match['interface']):02x}"
            if _USB_DEVICE.fullmatch(part):
                break
        return None

    def usb_address(self, device: UdevDevice) -> UsbAddress | None:
        """The address of its USB device, from its path alone."""
        found = None
        root = ""
        parts = device.path.split("/")
        for index, part in enumerate(parts):
            if _ROOT_HUB.fullmatch(part):
                root = f"{parts[index - 1]}/{self._speed('/'.join(parts[: index + 1]))}"
                found = UsbAddress(part, root)
            elif match := _USB_DEVICE.fullmatch(part):
                found = UsbAddress(part, f"{root or match['bus']}/{match['ports']}")
        return found

    def _speed(self, root: str) -> str:
        """`usb2` or `usb3` for a root hub: a controller has one of each, and their ports have the same numbers."""
        hub = self._by_path.get(root)
        product = usb_ids(hub)[1] if hub is not None else ""
        return {"0001": "usb1", "0002": "usb2", "0003": "usb3"}.get(product, root.rpartition("/")[2])

    @cached_property
    def by_number(self) -> Mapping[str, UdevDevice]:
        """Block devices by the number of their node."""
        return {one.number: one for one in self if one.subsystem == "block" and one.number}

    def find(self, name: str) -> list[UdevDevice]:
        """The device for a user's text: a node or a link to one, a path of sysfs, or a port such as `1-1.4`."""
        path = name.removeprefix("/sys").rstrip("/")
        if (exact := self._by_path.get(path)) is not None:
            return [exact]
        return [
            one
            for one in self
            if name
            and (
                name in (one.node, one.node.removeprefix("/dev/"), *one.links)
                or (one.subsystem and name == one.name)
            )
        ]


def usb_ids(device: UdevDevice) -> tuple[str, str]:
    """Vendor and product of a USB device, four lower-case hex digits each; empty if it has none.

    udevd's properties come first, then what the kernel says itself.
    """
    vendor = device.properties.get("ID_VENDOR_ID") or device.attributes.get("idVendor", "")
    product = device.properties.get("ID_MODEL_ID") or device.attributes.get("idProduct", "")
    if not (vendor and product):
        parts = device.properties.get("PRODUCT", "").split("/")
        if len(parts) == 3:
            vendor, product = (part.rjust(4, "0") for part in parts[:2])
    ids = vendor.lower(), product.lower()
    return ids if all(_ID.fullmatch(one) for one in ids) else ("", "")


def natural_order(text: str) -> list[tuple[int, str]]:
    """A sort key that has ttyUSB2 before ttyUSB10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", text)]


def parse_database(text: str) -> DeviceTree:
    """Devices from the output of `udevadm info --export-db`; lines of umockdev's `A:` are attributes.

    What is not understood is skipped: newer versions print more.
    """
    devices = []
    for block in re.split(r"\n[ \t\r]*\n", text):
        path = ""
        properties: dict[str, str] = {}
        attributes: dict[str, str] = {}
        links: list[str] = []
        for line in block.split("\n"):
            kind, _, rest = line.strip().partition(": ")
            key, _, value = rest.partition("=")
            if kind == "P":
                path = rest.removeprefix("/sys").rstrip("/")
            elif kind == "N":
                properties.setdefault("DEVNAME", f"/dev/{rest}")
            elif kind == "S":
                links.append(f"/dev/{rest}")
            elif kind == "E":
                properties[key] = value
            elif kind == "A":
                attributes[key] = value
        if path:
            if links:
                properties.setdefault("DEVLINKS", " ".join(links))
            devices.append(UdevDevice(path, properties, attributes))
    return DeviceTree(devices)
