"""Writes a profile for a device without one, as a draft for the user. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml
from jumpstarter_proto.texts import shown

from jumpstarter_exporter.devices.match import Finding
from jumpstarter_exporter.devices.udev_device import DeviceTree, UdevDevice, usb_ids

__all__ = ["suggested", "unmatched"]

_SUBSYSTEMS = ("tty", "block", "video4linux", "hidraw", "usbmisc")
_INTERFACES = {"block": "storage", "video4linux": "video"}


def unmatched(tree: DeviceTree, findings: Iterable[Finding]) -> list[Finding]:
    """Devices on USB that match no profile, may be of interest, and are not used by the host."""
    return [
        one
        for one in findings
        if one.device.subsystem in _SUBSYSTEMS
        and one.device.type != "partition"
        and tree.usb_device(one.device) is not None
        and not (one.matches or one.refusals or one.protection)
    ]


def suggested(tree: DeviceTree, findings: Iterable[Finding]) -> str:
    """A profiles file as text. Each profile matches its device, and others of the same kind."""
    lines = []
    profiles: dict[str, Any] = {}
    for one in findings:
        name = _profile_name(one, tree, profiles)
        profiles[name] = _profile(one, tree)
        lines.append(
            f"# {shown(name)}: {shown(one.device.node or one.device.path)}, {shown(str(one.identity))}"
        )
    data = {"apiVersion": "jumpstarter.dev/v1alpha1", "kind": "DeviceProfiles", "profiles": profiles}
    return "\n".join([*lines, yaml.safe_dump(data, sort_keys=False, allow_unicode=False)])


def _profile_name(one: Finding, tree: DeviceTree, taken: dict[str, Any]) -> str:
    usb = tree.usb_device(one.device)
    base = "-".join((one.device.subsystem, *(usb_ids(usb) if usb is not None else (one.device.name,))))
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    return name


def _profile(one: Finding, tree: DeviceTree) -> dict[str, Any]:
    device = one.device
    profile: dict[str, Any] = {"match": _match(device, tree)}
    if device.subsystem == "tty":
        return profile | {"type": "serial.PySerial", "config": {"url": "{link}", "baudrate": 115200}}
    if device.subsystem == "block":
        return profile | {"type": "storage.BlockStorage", "config": {"path": "{link}"}}
    interface = _INTERFACES.get(device.subsystem, "power")
    return profile | {"interface": interface, "no_driver": "write `type` and `config` of its driver instead"}


def _match(device: UdevDevice, tree: DeviceTree) -> dict[str, Any]:
    usb = tree.usb_device(device)
    match: dict[str, Any] = {"subsystem": device.subsystem}
    if device.type:
        match["devtype"] = device.type
    if usb is None or not all(usb_ids(usb)):
        return match | {"properties": {"DEVNAME": _literal(device.properties.get("DEVNAME", ""))}}
    match["vendor"], match["product"] = usb_ids(usb)
    number = tree.usb_interface(device)
    if number is not None:
        match["usb_interface"] = int(number, 16)
    return match


def _literal(text: str) -> str:
    """The glob that matches only that text."""
    return "".join(f"[{one}]" if one in "*?[" else one for one in text)
