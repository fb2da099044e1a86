"""What the host itself depends on, which is never offered. No I/O: `host_use` finds out what the host uses.

That is its root, boot, swap and data disks, the network interface of its default route, its keyboard and mouse, and
every port of a hub above one of these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from jumpstarter_proto.mounts import PlannedMount

from jumpstarter_exporter.devices.hwdb import Hwdb, facts_of
from jumpstarter_exporter.devices.udev_device import DeviceTree, UdevDevice

__all__ = ["HostUse", "Protection", "protect"]

_USB_PART = re.compile(r"(usb\d+|\d+-\d+(\.\d+)*)")
_INPUTS = {
    "ID_INPUT_KEYBOARD": "keyboard",
    "ID_INPUT_MOUSE": "mouse",
    "ID_INPUT_TOUCHPAD": "touchpad",
    "ID_INPUT_TOUCHSCREEN": "touchscreen",
}
_BOOT_INPUTS = {"3/1/1": "keyboard", "3/1/2": "mouse"}
"""By class, subclass and protocol of a USB interface (HID 1.11, 4.2), as the kernel reports them without udevd."""


@dataclass(frozen=True)
class HostUse:
    """What the host uses, as its kernel reports."""

    mounts: Mapping[str, str] = field(default_factory=dict)
    """Mount points of block devices, by number (`8:2`) and by node."""
    planned: tuple[PlannedMount, ...] = ()
    """Further mount points from fstab."""
    swaps: frozenset[str] = frozenset()
    """Nodes that are used as swap."""
    routes: frozenset[str] = frozenset()
    """Network interfaces of routes to other networks."""
    made_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The parts of a block device or network interface, by name: `dm-0` of `sda2`, `br0` of `eth0`."""


@dataclass(frozen=True)
class Protection:
    """What must not be offered, and why."""

    devices: Mapping[str, str]
    """By path in sysfs: what the host uses and everything above it, with the reason."""
    areas: Mapping[str, str]
    """Paths below which everything is the same piece of hardware, with the reason."""
    hub_ports: Mapping[tuple[str, int], str]
    """By a hub's path and the number of its port, from 1."""

    def reason(self, device: UdevDevice) -> str | None:
        """Why a device is not offered; None if it may be."""
        if device.path in self.devices:
            return self.devices[device.path]
        path = device.path
        while path:
            if path in self.areas:
                return self.areas[path]
            path = path.rpartition("/")[0]
        return None

    def ports_of(self, hub: UdevDevice) -> dict[int, str]:
        """A hub's ports that must not be switched off, with the reason."""
        return {port: why for (path, port), why in self.hub_ports.items() if path == hub.path}


def protect(tree: DeviceTree, use: HostUse, hwdb: Hwdb) -> Protection:
    """Everything that the host depends on, including ports that are switched together with its own (`gang`)."""
    devices: dict[str, str] = {}
    areas: dict[str, str] = {}
    hub_ports: dict[tuple[str, int], str] = {}
    for device, reason in _used(tree, use):
        devices[device.path] = f"the host {reason}"
        areas.setdefault(_area(tree, device), f"the host {reason}")
        for above in tree.ancestors(device):
            devices.setdefault(above.path, f"{_words(device)} hangs on it, and the host {reason}")
        for path, port in _hub_ports(device.path):
            hub = tree.get(path)
            gang = facts_of(hub, tree, hwdb).gang if hub is not None else range(0)
            for switched in gang if port in gang else (port,):
                also = "" if switched == port else f" at port {port}, which is switched with it"
                hub_ports.setdefault(
                    (path, switched), f"{_words(device)} hangs on it{also}, and the host {reason}"
                )
    return Protection(devices, areas, hub_ports)


def _used(tree: DeviceTree, use: HostUse) -> Iterator[tuple[UdevDevice, str]]:
    """The devices that the host uses, with the purpose."""
    blocks = {one.name: one for one in tree if one.subsystem == "block"}
    nets = {one.properties.get("INTERFACE", one.name): one for one in tree if one.subsystem == "net"}
    reasons: dict[str, str] = {}
    pools: dict[str, str] = {}
    for block in blocks.values():
        if reason := _block_reason(block, use):
            reasons[block.path] = reason
            if block.properties.get("ID_FS_TYPE") == "btrfs":
                pools[block.properties.get("ID_FS_UUID", "")] = reason
    for block in blocks.values():
        uuid = block.properties.get("ID_FS_UUID", "")
        if uuid in pools and block.properties.get("ID_FS_TYPE") == "btrfs":
            reasons.setdefault(block.path, pools[uuid])
    for name, net in nets.items():
        if name in use.routes:
            reasons[net.path] = "reaches others through it"
    named = {name: one for table in (nets, blocks) for name, one in table.items()}
    waiting = [(name, reasons[one.path]) for name, one in named.items() if one.path in reasons]
    # An interface or a disk may be known only to the kernel, such as a container's bridge.
    waiting += [(name, "reaches others through it") for name in use.routes if name not in named]
    seen: set[str] = set()
    while waiting:
        name, reason = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if (part := named.get(name)) is not None:
            reasons.setdefault(part.path, reason)
        names = [name]
        if part is not None and part.type == "partition":  # for example of an array
            names.append(part.path.split("/")[-2])
        waiting += [(below, reason) for one in names for below in use.made_of.get(one, ())]
    for device in tree:
        if device.path in reasons:
            yield device, reasons[device.path]
        elif device.subsystem == "input":
            kinds = [word for key, word in _INPUTS.items() if device.properties.get(key) == "1"]
            if kinds:
                yield device, f"has its {' and '.join(kinds)} there"
    for device in tree:
        if device.type == "usb_interface" and (
            kind := _BOOT_INPUTS.get(device.properties.get("INTERFACE", ""))
        ):
            yield device, f"has its {kind} there"


def _block_reason(block: UdevDevice, use: HostUse) -> str:
    names = (block.number, block.node, *block.links)
    for name in names:
        if name and name in use.mounts:
            return f"has {use.mounts[name]} on it"
    if any(name in use.swaps for name in names if name):
        return "swaps to it"
    kind = block.properties.get("ID_FS_TYPE", "")
    if kind.endswith("_member"):
        return f"may have it in an array or a volume group ({kind})"
    mounted = set(use.mounts.values())
    for planned in use.planned:
        if planned.target not in mounted and _is_source(block, planned.source):
            return f"has {planned.target} on it, says /etc/fstab"
    return ""


def _is_source(block: UdevDevice, source: str) -> bool:
    key, sign, value = source.partition("=")
    value = value.strip('"')
    properties = {
        "UUID": "ID_FS_UUID",
        "LABEL": "ID_FS_LABEL",
        "PARTUUID": "ID_PART_ENTRY_UUID",
        "PARTLABEL": "ID_PART_ENTRY_NAME",
    }
    if sign and key in properties:
        return bool(value) and block.properties.get(properties[key], "").lower() == value.lower()
    return source in (block.node, *block.links)


def _area(tree: DeviceTree, device: UdevDevice) -> str:
    """The path below which everything is the same piece of hardware: a function of a USB device, or a whole disk."""
    parts = device.path.split("/")
    for index in range(len(parts) - 1, 0, -1):
        if ":" in parts[index] and _USB_PART.fullmatch(parts[index].partition(":")[0]):
            return "/".join(parts[: index + 1])
    if device.subsystem != "block" or device.path.startswith("/devices/virtual/"):
        return device.path
    disk = next(
        (one for one in (device, *tree.ancestors(device)) if one.subsystem == "block" and one.type == "disk"),
        device,
    )
    return disk.path.rpartition("/")[0].removesuffix("/block")


def _hub_ports(path: str) -> Iterator[tuple[str, int]]:
    """The hub ports above a device: the hub's path and the number of the port."""
    parts = path.split("/")
    for index, part in enumerate(parts):
        if _USB_PART.fullmatch(part) and "-" in part and index:
            yield "/".join(parts[:index]), int(re.split(r"[-.]", part)[-1])


def _words(device: UdevDevice) -> str:
    interface = device.properties.get("INTERFACE") if device.subsystem == "net" else ""
    return device.node or interface or device.name
