"""How a device is recognised when it returns: by its serial number, or by its USB port. No I/O.

The serial number is used if the device has one, no other device of this host has the same, and the model is not known
for shared serial numbers. Otherwise the port is used, so that two identical adapters are told apart.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from jumpstarter_exporter.devices.hwdb import Hwdb, HwdbFacts, facts_of, serial_number
from jumpstarter_exporter.devices.udev_device import DeviceTree, UdevDevice, natural_order, usb_ids

__all__ = ["DeviceIdentity", "IdentitySource", "identify", "shared_serials"]


class IdentitySource(enum.Enum):
    """The kind of identity that was chosen."""

    SERIAL = "serial number"
    PORT = "port"
    PATH = "path"
    """The path in sysfs: it is not a USB device, and cannot be plugged into another port."""


@dataclass(frozen=True)
class DeviceIdentity:
    """The identity of one of udev's devices, which may be a part of a USB device: one of its serial ports."""

    source: IdentitySource
    key: str
    """Unique now, and also after the device was unplugged or moved."""
    value: str
    """The serial number, the port (`1-1.4`) or the path, for people."""
    why: str
    """The reason, as a sentence."""

    def __str__(self) -> str:
        """The text for people."""
        return f"{self.source.value} {self.value}"


def identify(tree: DeviceTree, hwdb: Hwdb, shared: Collection[str] = ()) -> Mapping[str, DeviceIdentity]:
    """Return the identity of every device, by its path.

    `shared` are serial numbers that two devices had at the same time (`shared_serials`). If the caller keeps them,
    identities do not change when one of the two devices is unplugged.
    """
    units = _Units(tree, hwdb, shared)
    parts: dict[str, list[UdevDevice]] = defaultdict(list)
    identities: dict[str, DeviceIdentity] = {}
    for device in tree:
        unit = units.of(device)
        part = f"{unit.key}/{device.subsystem}/{tree.usb_interface(device) or ''}"
        if (
            device.type == "partition"
        ):  # the number of partitions of one disk does not change the identity of the next
            part += "/partition"
        siblings = parts[part]
        siblings.append(device)
        number = f"/{len(siblings) - 1}" if len(siblings) > 1 else ""
        identities[device.path] = DeviceIdentity(unit.source, f"{part}{number}", unit.value, unit.why)
    return identities


def shared_serials(tree: DeviceTree) -> frozenset[str]:
    """Serial numbers that two USB devices of the same kind share now, with the kind: `10c4:ea60:0001`."""
    seen = [name for device in tree if device.is_usb_device and (name := _serial_name(device))]
    return frozenset(name for name in seen if seen.count(name) > 1)


def _serial_name(device: UdevDevice) -> str:
    serial = serial_number(device)
    return ":".join((*usb_ids(device), serial)) if serial else ""


class _Units:
    """Identities of whole USB devices."""

    def __init__(self, tree: DeviceTree, hwdb: Hwdb, shared: Collection[str]) -> None:
        self._tree = tree
        self._hwdb = hwdb
        self._shared = shared
        self._known: dict[str, DeviceIdentity] = {}
        self._serials: dict[str, list[UdevDevice]] = defaultdict(list)
        self._sockets: dict[str, int] = defaultdict(int)
        for device in tree:
            if device.is_usb_device:
                self._serials[_serial_name(device)].append(device)
                if address := tree.usb_address(device):
                    self._sockets[address.socket] += 1

    def of(self, device: UdevDevice) -> DeviceIdentity:
        """The identity of the device's USB device; without one, of the device itself."""
        usb = self._tree.usb_device(device)
        if usb is None:
            path = device.properties.get("ID_PATH") or device.path
            return DeviceIdentity(
                IdentitySource.PATH,
                f"path:{device.path}",
                path,
                "it is not a USB device, so its path in the host identifies it",
            )
        if usb.path not in self._known:
            self._known[usb.path] = self._of_usb(usb)
        return self._known[usb.path]

    def _of_usb(self, usb: UdevDevice) -> DeviceIdentity:
        facts = facts_of(usb, self._tree, self._hwdb)
        objections = list(self._objections(usb, facts))
        if not objections:
            serial = serial_number(usb)
            return DeviceIdentity(
                IdentitySource.SERIAL,
                f"serial:{_serial_name(usb)}",
                serial,
                f"no other device of this host has the serial number {serial}",
            )
        address = self._tree.usb_address(usb)
        if address is None or self._sockets[address.socket] > 1:
            return DeviceIdentity(IdentitySource.PATH, f"path:{usb.path}", usb.path, objections[0])
        kind = ":".join(usb_ids(usb))  # a device of another kind in the same port is another device
        return DeviceIdentity(
            IdentitySource.PORT, f"port:{address.socket}/{kind}", address.port, objections[0]
        )

    def _objections(self, usb: UdevDevice, facts: HwdbFacts) -> Iterator[str]:
        """Why the serial number cannot be used."""
        serial, name = serial_number(usb), _serial_name(usb)
        if not serial:
            yield "it has no serial number, so its port identifies it"
            return
        if facts.shares_serial:
            yield f"many {facts.model or 'devices'} have the serial number {serial}, so its port identifies it"
        if others := [one.name for one in self._serials[name] if one.path != usb.path]:
            alike = " and ".join(sorted(others, key=natural_order)) + (
                " has" if len(others) == 1 else " have"
            )
            yield f"{alike} the serial number {serial}, too, so its port identifies it"
        if name in self._shared:
            yield f"two devices had the serial number {serial} at one time, so its port identifies it"
