"""Finds out what the host uses itself: mounts, swap, routes, and the parts of its disks and interfaces."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from jumpstarter_proto.mounts import MOUNTINFO, parse_fstab, parse_mountinfo, unescaped

from jumpstarter_exporter.devices.offer import HostUse
from jumpstarter_exporter.devices.udev_database import UdevError

__all__ = ["parse_host_use", "read_host_use", "read_mountinfo"]

_NOTHING = "0" * 32
_REMOVABLE = ("/media/", "/run/media/")
"""Where desktops mount removable media. /mnt belongs to the admin."""


def read_host_use(root: Path = Path("/")) -> HostUse:
    """Read what the host uses now from `proc`, `etc` and `sys` in a folder. Blocking, for some milliseconds.

    Raises:
        UdevError: its mounts cannot be read, so its own disks are unknown.
    """
    proc, etc, sys = root / "proc", root / "etc", root / "sys"
    use = parse_host_use(
        read_mountinfo(root),
        _text(proc / "swaps"),
        _text(proc / "net" / "route"),
        _text(proc / "net" / "ipv6_route"),
        _text(etc / "fstab"),
    )
    below = _made_of(sys / "class" / "block", "slaves/*") | _made_of(sys / "class" / "net", "lower_*")
    return replace(use, made_of=below)


def read_mountinfo(root: Path) -> str:
    """Read what is mounted. Raises UdevError if it cannot be read."""
    try:
        return (root / MOUNTINFO).read_bytes().decode(errors="surrogateescape")
    except OSError as error:
        raise UdevError(
            f"cannot find out what this host has mounted: {root / MOUNTINFO}: {error.strerror}; mount /proc"
        ) from None


def parse_host_use(mountinfo: str, swaps: str, route: str, ipv6_route: str, fstab: str) -> HostUse:
    """The same from the texts of /proc (proc(5)) and of /etc/fstab.

    What a desktop has mounted, and fstab does not name, is none of the host's: it mounts whatever is plugged in, also
    the card of a board. Writing to it is still refused while it is mounted.
    """
    planned = tuple(parse_fstab(fstab))
    admins = {one.target for one in planned}
    mounts: dict[str, str] = {}
    for mount in parse_mountinfo(mountinfo):
        if mount.target.startswith(_REMOVABLE) and mount.target not in admins:
            continue
        for key in (mount.device, mount.source):
            if key.startswith("/") or re.fullmatch(r"[1-9]\d*:\d+", key):  # 0:25 is not a disk
                # If one disk is mounted several times, the shortest path is the most important: / before
                # /var/lib/containers.
                mounts[key] = min(mounts.get(key, mount.target), mount.target, key=len)
    return HostUse(
        mounts,
        planned,
        frozenset(
            unescaped(re.split("[ \\t]", line)[0]) for line in swaps.split("\n")[1:] if line.startswith("/")
        ),
        frozenset(name for name in (*_interfaces(route), *_interfaces6(ipv6_route)) if name != "lo"),
    )


def _interfaces(route: str) -> Iterator[str]:
    """Default routes, and routes through a gateway."""
    for line in route.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and (fields[1] == fields[7] == "00000000" or fields[2] != "00000000"):
            yield fields[0]


def _interfaces6(route: str) -> Iterator[str]:
    for line in route.splitlines():
        fields = line.split()
        if len(fields) > 9 and ((fields[0], fields[1]) == (_NOTHING, "00") or fields[4] != _NOTHING):
            yield fields[9]


def _made_of(folder: Path, pattern: str) -> dict[str, tuple[str, ...]]:
    """The parts of each device in a folder of sysfs."""
    found = {}
    try:
        for one in folder.iterdir():
            if parts := sorted(part.name.removeprefix("lower_") for part in one.glob(pattern)):
                found[one.name] = tuple(parts)
    except OSError:
        return found  # in a container; mounted devices are still known by their numbers
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="surrogateescape")
    except OSError:
        return ""
