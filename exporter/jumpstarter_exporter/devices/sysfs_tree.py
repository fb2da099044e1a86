"""Reads the devices that a host may depend on from files: disks, network interfaces, input devices and USB devices.

pyudev is slower, reads only the running host, and needs libudev; this is used just before a port is switched. The
records are the same: from sysfs, with the properties of the udev database.
"""

from __future__ import annotations

import os
from pathlib import Path

from jumpstarter_proto.file_names import safe_name

from jumpstarter_exporter.devices.udev_database import SYSFS_ATTRIBUTES
from jumpstarter_exporter.devices.udev_device import DeviceTree, UdevDevice

__all__ = ["read_sysfs_tree"]

_FOLDERS = {
    "usb": "bus/usb/devices",
    "block": "class/block",
    "net": "class/net",
    "input": "class/input",
}
"""By subsystem: the folder of its devices below /sys."""


def read_sysfs_tree(root: Path = Path("/")) -> DeviceTree:
    """Return the devices of the host with `sys` and `run` in a folder. Unreadable devices are skipped. Blocking."""
    sys = Path(os.path.realpath(root / "sys"))
    found = []
    for subsystem, folder in _FOLDERS.items():
        for link in sorted((sys / folder).glob("*")):
            place = Path(os.path.realpath(link))
            if place.is_relative_to(sys) and place.is_dir():
                found.append(_read_device(f"/{place.relative_to(sys)}", place, subsystem, root))
    return DeviceTree(found)


def _read_device(path: str, place: Path, subsystem: str, root: Path) -> UdevDevice:
    properties = {"DEVPATH": path, "SUBSYSTEM": subsystem, **_pairs(_text(place / "uevent"))}
    name = properties.get("DEVNAME")
    if name and not name.startswith("/"):
        properties["DEVNAME"] = f"/dev/{name}"
    links = []
    for line in _text(root / "run/udev/data" / safe_name(_key(place.name, properties))).split("\n"):
        if line.startswith("E:"):
            properties |= _pairs(line.removeprefix("E:"))
        elif line.startswith("S:"):
            links.append(f"/dev/{line.removeprefix('S:')}")
    if links:
        properties["DEVLINKS"] = " ".join(sorted(links))
    attributes = {}
    if (
        properties.get("DEVTYPE") == "usb_device" and "ID_VENDOR_ID" not in properties
    ):  # no udevd has processed it
        attributes = {
            one: text for one in SYSFS_ATTRIBUTES if (text := _text(place / safe_name(one)).strip())
        }
    return UdevDevice(path, properties, attributes)


def _key(name: str, properties: dict[str, str]) -> str:
    """Its key in udev's database: `b8:2`, `n3`, `+usb:1-1.4:1.0`."""
    subsystem = properties["SUBSYSTEM"]
    if "MAJOR" in properties:
        return f"{'b' if subsystem == 'block' else 'c'}{properties['MAJOR']}:{properties.get('MINOR', '')}"
    return f"n{properties['IFINDEX']}" if "IFINDEX" in properties else f"+{subsystem}:{name}"


def _pairs(text: str) -> dict[str, str]:
    """Split at line feeds only: other line ends in Python's sense may be part of a device's own name."""
    return {key: value for key, sign, value in (line.partition("=") for line in text.split("\n")) if sign}


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode(errors="replace")
    except OSError:
        return ""
