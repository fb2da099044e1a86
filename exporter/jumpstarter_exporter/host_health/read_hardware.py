"""Reads a host's own hardware from sysfs: supply, temperature, USB. Blocking, for some milliseconds."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from jumpstarter_exporter.host_health.facts import PowerFacts, TemperatureFacts, UsbFacts, UsbUnit
from jumpstarter_exporter.host_health.host_files import HostFiles

__all__ = ["read_model", "read_power", "read_temperature", "read_usb", "undervoltage_alarm"]

_HWMON = "/sys/class/hwmon"
_THERMAL = "/sys/class/thermal"
_USB = "/sys/bus/usb/devices"
_FIRMWARE = (
    "/sys/devices/platform/soc/soc:firmware/get_throttled",
    "/sys/devices/platform/axi/axi:firmware/get_throttled",
    "/sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled",
)
"""In the Raspberry Pi's own kernel; others have only the hwmon."""
_PROCESSOR = ("cpu-thermal", "cpu_thermal", "x86_pkg_temp", "soc_thermal", "soc-thermal")
_HUB_CLASS = "09"
_VL805 = ("0x1106", "0x3483")
_BUDGETS = (("Raspberry Pi 5", 600), ("Raspberry Pi 4", 1200), ("Raspberry Pi 3", 1200))
"""The total current of all ports in mA. A Raspberry Pi 5 gives 1600 if its supply reports 5 A."""


def read_model(files: HostFiles) -> str:
    """The machine's name in its device tree; empty if it has none."""
    for place in ("/sys/firmware/devicetree/base/model", "/proc/device-tree/model"):
        if model := files.find_text(place):
            return model
    return ""


def read_power(files: HostFiles) -> PowerFacts:
    """Under-voltage and throttling, if the firmware reports them."""
    flags = next((one for place in _FIRMWARE if (one := files.number(place, 16)) is not None), None)
    place = undervoltage_alarm(files)
    number = None if place is None else files.number(place)
    return PowerFacts(read_model(files), flags, None if number is None else bool(number))


def undervoltage_alarm(files: HostFiles) -> str | None:
    """The kernel's alarm file, whatever the sensor's number is; None on hosts without one."""
    for name in files.names(_HWMON):
        if files.find_text(f"{_HWMON}/{name}/name") == "rpi_volt":
            return f"{_HWMON}/{name}/in0_lcrit_alarm"
    return None


def read_temperature(files: HostFiles) -> TemperatureFacts:
    """From the processor's sensor, or the first sensor."""
    zones = [name for name in files.names(_THERMAL) if name.startswith("thermal_zone")]
    kinds = {name: files.find_text(f"{_THERMAL}/{name}/type") or "" for name in zones}

    def rank(name: str) -> int:
        return _PROCESSOR.index(kinds[name]) if kinds[name] in _PROCESSOR else len(_PROCESSOR)

    for name in sorted(zones, key=rank):
        value = files.number(f"{_THERMAL}/{name}/temp")
        if value is None:
            continue  # some sensors answer only while their hardware is on
        critical = None
        for trip in range(16):
            if files.find_text(f"{_THERMAL}/{name}/trip_point_{trip}_type") == "critical":
                limit = files.number(f"{_THERMAL}/{name}/trip_point_{trip}_temp")
                critical = None if limit is None or limit <= 0 else limit / 1000
        return TemperatureFacts(value / 1000, kinds[name], critical)
    return TemperatureFacts()


def read_usb(files: HostFiles) -> UsbFacts:
    """Devices with their maximum current, and over-current events of ports. No device is opened."""
    names = files.names(_USB)
    units = tuple(_read_unit(files, name) for name in names if ":" not in name)
    over = {}
    for name in names:
        for port in files.names(f"{_USB}/{name}") if ":" in name else ():
            if re.fullmatch(r"(usb\d+|\d+-[\d.]+)-port\d+", port):
                count = files.number(f"{_USB}/{name}/{port}/over_current_count")
                if count:
                    over[port] = count
    return UsbFacts(units, over, frozenset(_vl805(files, units)), _budget(files))


def _read_unit(files: HostFiles, name: str) -> UsbUnit:
    folder = f"{_USB}/{name}"

    def said(attribute: str) -> str:
        return files.find_text(f"{folder}/{attribute}") or ""

    amount = re.match(r"[0-9]{1,9}", said("bMaxPower"))
    flags = files.number(f"{folder}/bmAttributes", 16) or 0
    controller = ""
    if name.startswith("usb"):
        controller = os.path.dirname(os.path.realpath(files.path(folder)))
    return UsbUnit(
        name,
        said("product") or f"{said('idVendor')}:{said('idProduct')}".strip(":"),
        is_hub=said("bDeviceClass") == _HUB_CLASS,
        is_self_powered=bool(flags & 0x40),
        milliamperes=int(amount[0]) if amount else 0,
        controller=controller,
    )


def _vl805(files: HostFiles, units: tuple[UsbUnit, ...]) -> Iterator[str]:
    for unit in units:
        if unit.controller:
            # A path of the host, not below the root folder: `controller` is the target of links.
            place = f"{_USB}/{unit.name}/.."
            told = tuple(files.find_text(f"{place}/{one}") for one in ("vendor", "device"))
            if told == _VL805:
                yield unit.controller


def _budget(files: HostFiles) -> int | None:
    model = read_model(files)
    for name, milliamperes in _BUDGETS:
        if model.startswith(name):
            if name == "Raspberry Pi 5":
                try:
                    said = files.read("/proc/device-tree/chosen/power/usb_max_current_enable", 8)
                except OSError:
                    said = b""
                if any(said):
                    return 1600
            return milliamperes
    return None
