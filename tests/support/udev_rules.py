"""Rules for udev, followed for devices of a mocked host: as much of udev(7) as ours use, and an error for all else."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from jumpstarter_exporter.devices.hwdb import Hwdb
from jumpstarter_exporter.devices.udev_device import DeviceTree, UdevDevice

__all__ = ["Given", "apply_rules"]

_TOKEN = re.compile(r'\s*([A-Z]+)(?:\{(\w+)\})?\s*(==|!=|\+=|=)\s*"([^"]*)"\s*(?:,|$)')
_USB_ID = ("ID_VENDOR_ID", "ID_MODEL_ID", "ID_MODEL", "ID_SERIAL_SHORT", "ID_USB_INTERFACES")


@dataclass
class Given:
    """What rules have made of one device."""

    env: dict[str, str]
    group: str = ""
    mode: str = ""
    tags: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    runs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Token:
    key: str
    name: str
    sign: str
    value: str


def apply_rules(
    files: Sequence[Path], tree: DeviceTree, device: UdevDevice, hwdb: Hwdb, *, action: str = "add"
) -> Given:
    """Follow them in their order, as udevd does for an event. ValueError: one has what is not known here."""
    given = Given({**device.properties, "ACTION": action})
    for file in files:
        rules = [_parsed(line) for line in file.read_text().splitlines() if line.strip() and line[0] != "#"]
        labels = {one.value: index for index, rule in enumerate(rules) for one in rule if one.key == "LABEL"}
        index = 0
        while index < len(rules):
            target = _followed(rules[index], tree, device, hwdb, given)
            index = labels[target] if target else index + 1
    return given


def _parsed(line: str) -> list[_Token]:
    tokens, rest = [], line
    while rest.strip():
        match = _TOKEN.match(rest)
        if match is None:
            raise ValueError(f"this rule is not supported here: {rest}")
        tokens.append(_Token(match[1], match[2] or "", match[3], match[4]))
        rest = rest[match.end() :]
    return tokens


def _followed(
    rule: list[_Token], tree: DeviceTree, device: UdevDevice, hwdb: Hwdb, given: Given
) -> str | None:
    """Do what it says if it matches. The label to go on at, if it names one."""
    parent = next((one for one in (device, *tree.ancestors(device)) if _fits(rule, one)), None)
    if parent is None:
        return None
    own = [one for one in rule if one.sign in ("==", "!=") and one.key not in _PLURAL]
    if not all(_is_match(one, _OWN[one.key](device, given, one.name)) for one in own):
        return None
    for one in rule:
        if one.sign in ("=", "+="):
            _do(one, tree, device, parent, hwdb, given)
    return next((one.value for one in rule if one.key == "GOTO"), None)


_PLURAL: dict[str, Callable[[UdevDevice], str]] = {
    "SUBSYSTEMS": lambda one: one.subsystem,
    "KERNELS": lambda one: one.name,
}
"""Of the device, or of one above it: the same one for all in a rule."""
_OWN: dict[str, Callable[[UdevDevice, Given, str], str]] = {
    "ACTION": lambda _, given, __: given.env["ACTION"],
    "SUBSYSTEM": lambda device, _, __: device.subsystem,
    "KERNEL": lambda device, _, __: device.name,
    "DRIVER": lambda device, _, __: device.properties.get("DRIVER", ""),
    "ENV": lambda _, given, name: given.env.get(name, ""),
}


def _fits(rule: list[_Token], one: UdevDevice) -> bool:
    return all(_is_match(token, _PLURAL[token.key](one)) for token in rule if token.key in _PLURAL)


def _is_match(token: _Token, value: str) -> bool:
    found = any(fnmatchcase(value, pattern) for pattern in token.value.split("|"))
    return found is (token.sign == "==")


def _do(
    token: _Token, tree: DeviceTree, device: UdevDevice, parent: UdevDevice, hwdb: Hwdb, given: Given
) -> None:
    value = re.sub(r"\$env\{(\w+)\}", lambda word: given.env.get(word[1], ""), token.value)
    match token.key, token.name, token.sign:
        case ("LABEL" | "GOTO", "", "="):
            pass
        case "GROUP", "", "=":
            given.group = value
        case "MODE", "", "=":
            given.mode = value
        case "TAG", "", "+=":
            given.tags.add(value)
        case "SYMLINK", "", "+=":
            given.links |= set(value.replace("$id", parent.name).replace("%k", device.name).split())
        case "RUN", ("" | "builtin"), "+=":
            given.runs.append(value)
        case "ENV", _, "=":
            given.env[token.name] = value
        case "IMPORT", "builtin", "=" if value == "usb_id":
            usb = tree.usb_device(device)
            given.env |= {key: usb.properties.get(key, "") for key in _USB_ID} if usb is not None else {}
        case "IMPORT", "builtin", "=" if value.startswith("hwdb '") and value.endswith("'"):
            given.env |= hwdb.lookup(value.removeprefix("hwdb '").removesuffix("'"))
        case _:
            raise ValueError(f"this assignment is not supported here: {token}")
