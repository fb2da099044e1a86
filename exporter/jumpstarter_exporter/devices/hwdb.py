"""The hwdb: which USB devices are serial adapters or hubs, and which have serial numbers that are not unique.

The data is in `70-jumpstarter.hwdb`, which udevd uses; if udevd has not loaded it, the exporter looks devices up
itself. No I/O except in `shipped` and `shipped_folder`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import translate
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

from jumpstarter_exporter.devices.udev_device import DeviceTree, UdevDevice, usb_ids

__all__ = [
    "Hwdb",
    "HwdbError",
    "HwdbFacts",
    "facts_of",
    "lookup_key",
    "parse_hwdb",
    "shipped",
    "shipped_folder",
]

_PREFIX = "ID_JUMPSTARTER_"
FILE = "70-jumpstarter.hwdb"


class HwdbError(ValueError):
    """A line that systemd-hwdb would reject."""


@dataclass(frozen=True, eq=False)
class Hwdb:
    """Records in the order of their file: patterns, and the properties of devices that match one of them."""

    records: tuple[tuple[re.Pattern[str], Mapping[str, str]], ...]

    def lookup(self, key: str) -> Mapping[str, str]:
        """The properties of all matching records; a later record overrides an earlier one."""
        return _lookup(self, key)


@lru_cache(maxsize=1024)  # a device is looked up with each event, and for each of its parts
def _lookup(hwdb: Hwdb, key: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for pattern, properties in hwdb.records:
        if pattern.match(key):
            found |= properties
    return found


@dataclass(frozen=True)
class HwdbFacts:
    """What the tables say about a USB device."""

    kind: str = ""
    """serial, sdmux, hub, relay, camera, storage, loader or debugger; empty if unknown."""
    model: str = ""
    """Its usual name."""
    ports: int = 1
    """The number of serial ports."""
    shares_serial: bool = False
    """Other units have the same serial number."""
    gang: range = range(0)
    """Ports of a hub whose power is switched together."""
    switches_ports: bool = False
    """A hub model that can switch its ports; whether this unit can must be measured."""


def parse_hwdb(text: str) -> Hwdb:
    """Parse a file as systemd-hwdb does (hwdb(7)).

    Raises:
        HwdbError: see there.
    """
    records = []
    patterns: list[str] = []
    properties: dict[str, str] = {}

    def end(number: int) -> None:
        if bool(patterns) != bool(properties):
            raise HwdbError(f"line {number}: a record needs both patterns and properties")
        if patterns:
            records.append((re.compile("|".join(translate(one) for one in patterns)), dict(properties)))
        patterns.clear()
        properties.clear()

    number = 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#"):
            continue
        if not line.strip():
            end(number)
        elif line.startswith(" "):
            key, sign, value = line[1:].partition("=")
            if not sign or not patterns:
                raise HwdbError(f"line {number}: {line.strip()!r} is not a property of a record")
            properties[key.strip()] = value.strip()
        elif properties:
            raise HwdbError(f"line {number}: an empty line is missing before the pattern")
        else:
            patterns.append(line.rstrip())
    end(number + 1)
    return Hwdb(tuple(records))


@cache
def shipped() -> Hwdb:
    """The shipped tables. Reads a file once, for some milliseconds."""
    return parse_hwdb((shipped_folder() / FILE).read_text())


def shipped_folder() -> Path:
    """The installed folder with the udev rules and the hwdb.

    Not from importlib.resources: the exporter would keep zipfile, and with it the libraries that decompress.
    """
    spec = find_spec("jumpstarter_udev")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the package jumpstarter_udev is missing; install jumpstarter-sbc again")
    return Path(spec.origin).parent


def lookup_key(device: UdevDevice) -> str:
    """The lookup key of a USB device; the tables explain it."""
    vendor, product = usb_ids(device)
    interfaces = device.properties.get("ID_USB_INTERFACES", "")
    serial = serial_number(device)
    model = device.properties.get("ID_MODEL") or _as_udev(device.attributes.get("product", ""))
    return f"jumpstarter:usb:v{vendor}p{product}:i{interfaces}:s{serial}:m{model}"


def serial_number(device: UdevDevice) -> str:
    """A USB device's own serial number as udev has it; empty if it has none, or an invalid one."""
    said = device.properties.get("ID_SERIAL_SHORT") or device.attributes.get("serial", "")
    return "" if re.search(r"[^ -~]|,", said) else _as_udev(said)


def facts_of(device: UdevDevice, tree: DeviceTree, hwdb: Hwdb) -> HwdbFacts:
    """Return the hwdb facts of a USB device, or of the USB device that it is a part of.

    Properties from udev take precedence, because the administrator may have changed them.
    """
    usb = tree.usb_device(device)
    if usb is None:
        return HwdbFacts()
    found = dict(hwdb.lookup(lookup_key(usb)))
    for one in (usb, device):
        found |= {key: value for key, value in one.properties.items() if key.startswith(_PREFIX)}
    first, _, last = found.get(f"{_PREFIX}GANG", "").partition("-")
    ports = found.get(f"{_PREFIX}PORTS", "")
    return HwdbFacts(
        found.get(f"{_PREFIX}KIND", ""),
        found.get(f"{_PREFIX}MODEL", ""),
        int(ports) if ports.isdigit() else 1,
        found.get(f"{_PREFIX}SERIAL") == "shared",
        range(int(first), int(last) + 1) if first.isdigit() and last.isdigit() else range(0),
        found.get(f"{_PREFIX}POWER") == "ports",
    )


def _as_udev(text: str) -> str:
    """A device's text with udev's replacements for blanks and slashes."""
    return re.sub(r"[^0-9A-Za-z#+\-.:=@_]", "_", re.sub(r"\s+", "_", text.strip()).replace("/", "."))
