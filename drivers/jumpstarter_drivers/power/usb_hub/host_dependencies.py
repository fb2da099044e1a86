"""What the host itself stands on: the devices of its file systems, its swap, its default route, its keyboard and mouse.

Read from sysfs and procfs alone, and anew each time, as disks are mounted and routes change. Everything here is
blocking.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jumpstarter_proto.file_names import safe_name

from jumpstarter_drivers.power.usb_hub.topology import PortLocation

__all__ = ["HostDependency", "dependencies_below", "find_host_dependencies"]

_REMOVABLE = ("/media", "/mnt", "/run/media")
"""What is mounted below these is a user's, and no part of the host."""
_BOOT_KEYBOARDS = {"03 01 01": "keyboard", "03 01 02": "mouse"}
"""Class, subclass and protocol of USB interfaces."""
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class HostDependency:
    """Something that the host needs, and where it is."""

    what: str
    """For users: `its file system / (sda2)`."""
    devices: frozenset[str]
    """The names of all devices in sysfs that it is, or that are above it."""


def dependencies_below(
    location: PortLocation, dependencies: Iterable[HostDependency]
) -> list[HostDependency]:
    """Those that lose their power, or their connection, with this port."""
    return [one for one in dependencies if location.name in one.devices]


def find_host_dependencies(root: Path) -> list[HostDependency]:
    """All there are. `root` is the directory in which `sys` and `proc` are. What cannot be read is left out."""
    return [*_disks(root), *_networks(root), *_keyboards(root)]


def _disks(root: Path) -> Iterator[HostDependency]:
    seen = set()
    for number, source, where in _file_systems(root):
        device = root / "sys/dev/block" / safe_name(number)
        if not device.exists():
            device = _block_device(root, source)
        for place in _lowest(device, "slaves/*"):
            if (place, where) not in seen:
                seen.add((place, where))
                yield HostDependency(f"{where} ({place.name})", frozenset(place.parts))


def _file_systems(root: Path) -> Iterator[tuple[str, str, str]]:
    """Device numbers, sources, and what they are, of what is mounted and of swap."""
    for line in _lines(root / "proc/self/mountinfo"):
        own, _, rest = line.partition(" - ")
        fields, others = own.split(" "), rest.split(" ")
        if len(fields) < 5 or len(others) < 2:
            continue
        where = _unescaped(fields[4])
        if not any(where == top or where.startswith(f"{top}/") for top in _REMOVABLE):
            yield fields[2], _unescaped(others[1]), f"its file system {where}"
    for line in _lines(root / "proc/swaps")[1:]:
        yield "", _unescaped(line.partition(" ")[0].strip()), "its swap"


def _block_device(root: Path, source: str) -> Path:
    """Of a path such as /dev/sda2 or /dev/mapper/root."""
    if not source.startswith("/dev/"):
        return root / "sys/class/block/none"
    node = os.path.realpath(root / source.lstrip("/"))
    return root / "sys/class/block" / safe_name(os.path.basename(node))


def _networks(root: Path) -> Iterator[HostDependency]:
    for interface in sorted(_default_interfaces(root)):
        for place in _lowest(root / "sys/class/net" / safe_name(interface), "lower_*"):
            yield HostDependency(f"the interface of its default route ({place.name})", frozenset(place.parts))


def _default_interfaces(root: Path) -> set[str]:
    found = set()
    for line in _lines(root / "proc/net/route")[1:]:
        fields = line.split()
        if len(fields) >= 8 and (fields[1], fields[7]) == ("00000000", "00000000"):
            found.add(fields[0])
    for line in _lines(root / "proc/net/ipv6_route"):
        fields = line.split()
        if len(fields) >= 10 and fields[0] == "0" * 32 and fields[1] == "00" and fields[9] != "lo":
            found.add(fields[9])
    return {name for name in found if "/" not in name}


def _keyboards(root: Path) -> Iterator[HostDependency]:
    for interface in sorted((root / "sys/bus/usb/devices").glob("*:*")):
        codes = ("bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol")
        what = _BOOT_KEYBOARDS.get(" ".join(_text(interface / safe_name(name)) for name in codes))
        if what is not None:
            place = Path(os.path.realpath(interface))
            yield HostDependency(
                f"its {what} ({_text(place.parent / 'product') or place.name})", frozenset(place.parts)
            )


def _lowest(device: Path, below: str) -> list[Path]:
    """The devices of which a virtual one (a volume, an array, a bridge) consists, and others themselves."""
    found, to_do, seen = [], [device], set()
    while to_do:
        place = Path(os.path.realpath(to_do.pop()))
        if place in seen or not place.is_dir():
            continue
        seen.add(place)
        parts = sorted(place.glob(below))
        if (place / "partition").exists():
            parts += sorted(place.parent.glob(below))
        to_do += parts
        if not parts:
            found.append(place)
    return found


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""


def _unescaped(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
