"""Reads what a host has for `draft_configuration`: its devices, what it uses itself, and a few attributes of sysfs.

No device is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jumpstarter_proto.file_names import safe_name
from jumpstarter_proto.mounts import parse_mountinfo

from jumpstarter_exporter.devices.host_use import read_host_use, read_mountinfo
from jumpstarter_exporter.devices.offer import HostUse
from jumpstarter_exporter.devices.udev_database import enumerate_devices
from jumpstarter_exporter.devices.udev_device import DeviceTree, UdevDevice

__all__ = ["HostParts", "read_host_parts"]

_ATTRIBUTES = {
    "block": ("removable", "size"),
    "tty": ("type", "active"),
    "gpio": ("label", "ngpio"),
    "usb": ("maxchild",),
}
"""By subsystem: files of sysfs (the kernel's Documentation/ABI) that are not in udev's database."""
_MAX_ATTRIBUTE_BYTES = 4096


@dataclass(frozen=True)
class HostParts:
    """What was found on a host."""

    tree: DeviceTree = field(default_factory=lambda: DeviceTree(()))
    use: HostUse = field(default_factory=HostUse)
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By path in sysfs: `removable`, `size` of disks; `type` of serial ports, `active` of the console; `label` and
    `ngpio` of GPIO chips. A file that is not there is left out."""
    mounts: Mapping[str, str] = field(default_factory=dict)
    """All mount points, also of removable media, by number (`8:2`) and node of the device."""
    configured: Mapping[str, str] = field(default_factory=dict)
    """Files of existing configurations, by the nodes that they name."""


def read_host_parts(root: Path = Path("/")) -> HostParts:
    """Read them; `root` has `proc`, `etc` and `sys`. Blocking, for some tens of milliseconds.

    Raises:
        UdevError: the devices or the mounts cannot be read.
    """
    tree = enumerate_devices()
    use = read_host_use(root)
    attributes: dict[str, dict[str, str]] = {}
    for device in tree:
        found = {
            name: text
            for name in _ATTRIBUTES.get(device.subsystem, ())
            if (text := _attribute(_folder(root, device) / safe_name(name))) is not None
        }
        if found:
            attributes[device.path] = found
    mounts = {
        key: mount.target
        for mount in parse_mountinfo(read_mountinfo(root))
        for key in (mount.device, mount.source)
    }
    return HostParts(tree, use, attributes, mounts)


def _folder(root: Path, device: UdevDevice) -> Path:
    folder = root / "sys"
    for part in device.path.strip("/").split("/"):
        folder /= safe_name(part)
    return folder


def _attribute(file: Path) -> str | None:
    try:
        with file.open("rb") as stream:
            return stream.read(_MAX_ATTRIBUTE_BYTES).decode(errors="replace").strip()
    except OSError:
        return None
