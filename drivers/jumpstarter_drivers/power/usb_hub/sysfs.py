"""USB hubs and their ports as sysfs shows them.

Everything here is blocking, and nothing but `SysfsPort.disable` changes anything.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from grp import getgrgid
from pathlib import Path
from pwd import getpwuid

from jumpstarter_exporter.driver import DeviceFailed
from jumpstarter_proto.file_names import safe_name

from jumpstarter_drivers.power.usb_hub.protocol import decode_container_id
from jumpstarter_drivers.power.usb_hub.topology import PortLocation, UsbHub, parse_port

__all__ = [
    "FORBIDDEN",
    "ROOT",
    "SysfsPort",
    "find_port",
    "hub_directory",
    "is_raspberry_pi_hub",
    "permission_error",
    "read_hubs",
    "read_text",
]

ROOT = Path("/")
"""In which `sys` and `proc` are."""

FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors that say that this process may not, and not that it cannot be."""

_DEVICES = "sys/bus/usb/devices"
_ON_RASPBERRY_PI = {
    ("2109:3431", (1,)),  # 4
    ("0424:9512", (1,)),  # 1 B
    ("0424:9514", (1,)),  # B+, 2, 3
    ("0424:2514", (1,)),  # 3 B+, 3 A+
    ("0424:2514", (1, 1)),
}
"""Hubs on the boards themselves, by their ids and the ports that lead to them."""


@dataclass(frozen=True)
class SysfsPort:
    """The directory of a port."""

    location: PortLocation
    directory: Path

    @property
    def attribute(self) -> Path:
        """What switches it, where the kernel has that (Linux 6.0 and newer)."""
        return self.directory / "disable"

    @property
    def is_switched_by_attribute(self) -> bool:
        """Whether the kernel has the attribute."""
        return self.attribute.exists()

    @property
    def has_device(self) -> bool:
        """Whether the kernel knows a device in it."""
        return (self.directory.parent.parent.parent / safe_name(self.location.name)).exists() or (
            self.directory / "device"
        ).exists()

    def disable(self, *, off: bool) -> None:
        """Switch it. The kernel first disconnects what is in it, and tells udev. Raises OSError."""
        # No truncation, and one write: that is what an attribute is.
        descriptor = os.open(self.attribute, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"1" if off else b"0")
        finally:
            os.close(descriptor)

    def is_disabled(self) -> bool:
        """Read the current state; the kernel asks the hub for each read. Raises OSError."""
        return self.attribute.read_text().strip() == "1"

    def check_access(self) -> None:
        """Raise DeviceFailed if this process may not switch it. An attribute that is only opened changes nothing."""
        try:
            os.close(os.open(self.attribute, os.O_WRONLY | os.O_CLOEXEC))
        except OSError as error:
            if error.errno in FORBIDDEN:
                raise permission_error(self.attribute, error) from error


def hub_directory(hub: str) -> Path:
    """The directory of a hub."""
    return ROOT / _DEVICES / safe_name(hub)


def find_port(location: PortLocation) -> SysfsPort | None:
    """A port's directory; None where the kernel shows none."""
    prefix = location.hub.removeprefix("usb") + ("-0" if location.hub.startswith("usb") else "")
    for interface in sorted(hub_directory(location.hub).glob(f"{prefix}:*.0")):
        directory = interface / safe_name(location.directory_name)
        if directory.is_dir():
            return SysfsPort(location, directory)
    return None


def read_hubs() -> list[UsbHub]:
    """Return all hubs that are plugged in."""
    is_raspberry_pi = _is_raspberry_pi()
    found = []
    for directory in sorted((ROOT / _DEVICES).glob("*")):
        if ":" not in directory.name and read_text(directory / "bDeviceClass") == "09":
            with suppress(ValueError):  # it goes in this moment
                found.append(_read_hub(directory, is_raspberry_pi=is_raspberry_pi))
    return found


def _read_hub(directory: Path, *, is_raspberry_pi: bool) -> UsbHub:
    name = directory.name
    hub = UsbHub(
        name,
        is_superspeed=float(read_text(directory / "version")) >= 3,
        port_count=int(read_text(directory / "maxchild")),
        vendor_id=read_text(directory / "idVendor"),
        product_id=read_text(directory / "idProduct"),
        product=read_text(directory / "product"),
        serial=read_text(directory / "serial"),
        container_id=_container_id(directory),
    )
    ids = f"{hub.vendor_id}:{hub.product_id}"
    peers = {location.number: peer for location in hub.ports if (peer := _peer(location)) is not None}
    is_built_in = not hub.path or (is_raspberry_pi and (ids, hub.path) in _ON_RASPBERRY_PI)
    return UsbHub(**{**vars(hub), "peers": peers, "is_built_in": is_built_in})


def _peer(location: PortLocation) -> PortLocation | None:
    port = find_port(location)
    if port is None:
        return None
    try:
        target = os.readlink(port.directory / "peer")
    except OSError:
        return None
    hub, _, number = Path(target).name.rpartition("-port")
    try:
        return parse_port(number, hub)
    except ValueError:
        return None


def is_raspberry_pi_hub(hub: UsbHub) -> bool:
    """Whether it is one of those of which a Raspberry Pi's own sockets are."""
    return hub.is_built_in and _is_raspberry_pi()


def _is_raspberry_pi() -> bool:
    model = read_text(ROOT / "sys/firmware/devicetree/base/model").rstrip("\0")
    return model.startswith("Raspberry Pi") and "Compute Module" not in model  # whose board may be anybody's


def _container_id(directory: Path) -> str | None:
    try:
        return decode_container_id((directory / "bos_descriptors").read_bytes())
    except OSError:
        return None


def read_text(file: Path) -> str:
    """An attribute without the blanks around it; empty where there is none."""
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""


def permission_error(file: Path, error: OSError | None = None) -> DeviceFailed:
    """Return a sentence about the owner of the file and the rights that it needs."""
    if error is not None and error.errno == errno.EROFS:
        return DeviceFailed(
            f"{file} is read-only for the exporter; leave ProtectKernelTunables= out of its unit"
        )
    try:
        status = file.stat()
    except OSError:
        owner = ""
    else:
        owner = f" (it is {_user(status.st_uid)}:{_group(status.st_gid)} {stat.S_IMODE(status.st_mode):04o})"
    return DeviceFailed(
        f"the exporter may not write {file}{owner}; give it the mode 0664 and a group of the exporter's "
        f"user, {_user(os.geteuid())}, by a udev rule (the README of the power drivers has one)"
    )


def _user(number: int) -> str:
    try:
        return getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return getgrgid(number).gr_name
    except KeyError:
        return str(number)
