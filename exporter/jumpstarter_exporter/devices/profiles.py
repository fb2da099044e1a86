"""Profiles: which of udev's devices becomes which device of a board. YAML, read strictly.

    apiVersion: jumpstarter.dev/v1alpha1
    kind: DeviceProfiles
    profiles:
      rpi4-console:
        match: {subsystem: tty, vendor: "0403", product: "6001", serial: A50285BI}
        group: rpi4
        type: serial.PySerial
        config: {url: "{link}", baudrate: 115200}

`parse` does no I/O but that of its file; `match` says what the keys mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter
from typing import Any, Literal

import msgspec
from jumpstarter_proto.yaml_files import (
    ConfigError,
    Document,
    FieldError,
    PathInFile,
    check_names,
    nearest,
    read_struct,
)

from jumpstarter_exporter.devices.port_patterns import check_port
from jumpstarter_exporter.paths import config_folders

__all__ = [
    "ADMIN_FOLDER",
    "TEMPLATE_WORDS",
    "Ancestor",
    "Conditions",
    "Profile",
    "ProfileFile",
    "ProfileSet",
    "combine",
    "parse",
    "read_folder",
    "read_host_profiles",
    "read_profiles",
    "shipped",
]

ADMIN_FOLDER = Path("/etc/jumpstarter/profiles.d")
_SHIPPED_FOLDER = Path(__file__).with_name("shipped_profiles")

TEMPLATE_WORDS = {
    "link": "the most stable name of its node: by serial number, else by port",
    "node": "its node now, which may have another number next time",
    "port": "the USB port, such as 1-1.4",
    "serial": "the serial number",
    "id": "the serial number or the port, whichever identifies it",
    "vendor": "the USB vendor, four hex digits",
    "product": "the USB product, four hex digits",
    "model": "what the tables call it, such as FT232R",
    "usb_interface": "the number of the USB interface, in decimal",
    "interface": "the profile's interface",
}
"""The words that are allowed in braces."""

_HEX = re.compile(r"[0-9A-Fa-f]{4}|[0-9A-Fa-f!-]*[*?\[][0-9A-Fa-f*?\[\]!-]*")
"""Four digits, or a glob."""


class Ancestor(msgspec.Struct, frozen=True):
    """Conditions for one device above."""

    subsystem: str | None = None
    vendor: str | None = None
    product: str | None = None
    properties: dict[str, str] = {}

    def __post_init__(self) -> None:
        """Check the values. FieldError names the wrong one."""
        _check_hex(self)


class Conditions(msgspec.Struct, frozen=True):
    """Conditions for a device; all that are given must hold. Texts are globs (`*`, `?`, `[a-f]`)."""

    subsystem: str
    """tty, block, usb, ..."""
    devtype: str | None = None
    """udev's DEVTYPE: usb_device, disk, ..."""
    kind: str | None = None
    """The kind from the tables: serial, sdmux, hub, relay, camera, storage, loader, debugger."""
    vendor: str | None = None
    """The USB vendor in hex, in upper or lower case."""
    product: str | None = None
    usb_interface: int | None = None
    """The number of the USB interface."""
    serial: str | None = None
    """The serial number; a device without one does not match."""
    port: str | None = None
    """The USB port: `1-1.4`, or `1-1.*` for all ports of a hub."""
    properties: dict[str, str] = {}
    """Properties of udev, including those from the tables (`ID_JUMPSTARTER_…`)."""
    ancestor: Ancestor | None = None

    def __post_init__(self) -> None:
        """Check the values. FieldError names the wrong one."""
        _check_hex(self)
        if self.port is not None:
            check_port(self.port, "port")


class _Keys(msgspec.Struct, frozen=True):
    """A profile as written in the file."""

    match: Conditions
    type: str | None = None
    """The driver, as in a board's configuration."""
    no_driver: str | None = None
    """Instead of a type: the reason why there is no driver. The device is shown, but cannot be used."""
    interface: str | None = None
    """The interface of its driver: serial, power, ...; by default the part of `type` before the dot."""
    name: str = "{interface}"
    group: str = "{model}-{id}"
    config: dict[str, Any] = {}
    labels: dict[str, str] = {}
    description: str | None = None

    def __post_init__(self) -> None:
        """Check that the keys fit together. FieldError names the wrong one."""
        if (self.type is None) == (self.no_driver is None):
            raise FieldError("a profile has either `type` or `no_driver`; write one of them")
        if self.type is not None and self.interface is None and self.type.count(".") != 1:
            raise FieldError(
                f"the interface of {self.type} is unknown; add `interface: power` or another", "type"
            )
        if self.type is None and self.interface is None:
            raise FieldError("`interface` is missing; say what it would offer: serial, power, ...")
        if self.no_driver is not None and self.config:
            raise FieldError("`config` needs `type`; add `type`, or remove `config`", "config")
        for path, text in (("name",), self.name), (("group",), self.group), *_texts(self.config, ("config",)):
            _check_template(text, path)
        for key, text in self.labels.items():
            _check_template(text, ("labels", key))


class _Top(msgspec.Struct, frozen=True, rename="camel"):
    """A file's own keys."""

    api_version: Literal["jumpstarter.dev/v1alpha1"] = "jumpstarter.dev/v1alpha1"
    kind: Literal["DeviceProfiles"] = "DeviceProfiles"
    enable: list[str] = []
    """Shipped profiles of storage and hubs to enable."""
    disable: list[str] = []
    """Profiles to disable."""
    profiles: Any = None


@dataclass(frozen=True)
class Profile:
    """One profile."""

    name: str
    match: Conditions
    type: str | None
    no_driver: str
    """Empty if it has a type."""
    interface: str
    device_name: str
    """A template, like the group, the configuration's texts and the labels."""
    group: str
    config: Mapping[str, Any]
    labels: Mapping[str, str]
    description: str | None
    document: Document = field(repr=False, compare=False)
    """Its file, for the position of errors that are found later."""
    by_admin: bool

    def __str__(self) -> str:
        """A text for people."""
        return self.name


@dataclass(frozen=True)
class ProfileFile:
    """A parsed file."""

    document: Document
    profiles: tuple[Profile, ...]
    enable: tuple[str, ...]
    disable: tuple[str, ...]


@dataclass(frozen=True)
class ProfileSet:
    """All profiles of a host that are in effect, ordered by name."""

    profiles: tuple[Profile, ...]
    enabled: frozenset[str] = frozenset()
    """Those that an admin enabled."""
    errors: tuple[ConfigError, ...] = field(default=(), compare=False)
    """Errors of files and profiles that are not in effect."""


def parse(file: Path, raw: bytes | None = None, *, by_admin: bool = True) -> ProfileFile:
    """Read and check a file of profiles. `raw` is what is in it, if that was read already.

    Raises:
        ConfigError: at its place in the file.
    """
    document = Document(file, "profiles", raw)
    top = read_struct(document, _Top, document.data)
    profiles = check_names(document, top.profiles, "profile", ("profiles",))
    return ProfileFile(
        document,
        tuple(_profile(document, name, data, by_admin) for name, data in profiles.items()),
        tuple(top.enable),
        tuple(top.disable),
    )


def _profile(document: Document, name: str, data: object, by_admin: bool) -> Profile:
    path = ("profiles", name)
    _check_ids(document, data, path)
    keys = read_struct(document, _Keys, data, path)
    return Profile(
        name,
        keys.match,
        keys.type,
        keys.no_driver or "",
        keys.interface or (keys.type or "").partition(".")[0],
        keys.name,
        keys.group,
        keys.config,
        keys.labels,
        keys.description,
        document,
        by_admin,
    )


def _check_ids(document: Document, data: object, path: PathInFile) -> None:
    """An id without quotes has its own error message, because YAML reads 0403 as the number 259."""
    match = data.get("match") if isinstance(data, Mapping) else None
    ancestor = match.get("ancestor") if isinstance(match, Mapping) else None
    for mapping, where in (match, ("match",)), (ancestor, ("match", "ancestor")):
        for key in ("vendor", "product"):
            value = mapping.get(key) if isinstance(mapping, Mapping) else None
            if isinstance(value, int | float):
                sentence = f"YAML reads it as the number {value}; put the hex digits in quotes"
                raise document.error((*path, *where, key), sentence)


def combine(
    shipped: Iterable[ProfileFile], admin: Iterable[ProfileFile], errors: Iterable[ConfigError] = ()
) -> ProfileSet:
    """Return the active profiles. A profile of the administrator replaces the shipped one of the same name.

    If two files of the administrator have one name, the first file is used. This, and unknown names in `enable` and
    `disable`, are errors in the result.
    """
    found: dict[str, Profile] = {one.name: one for file in shipped for one in file.profiles}
    wrong = list(errors)
    named: set[str] = set()
    off: set[str] = set()
    files = list(admin)
    for file in files:
        for one in file.profiles:
            before = found.get(one.name)
            if before is not None and before.by_admin:
                sentence = f"{before.document.file} has a profile {one.name}, too; give this one another name"
                wrong.append(file.document.error(("profiles", one.name), sentence))
            else:
                found[one.name] = one
    for file in files:
        for key, names, all_names in ("enable", file.enable, named), ("disable", file.disable, off):
            for index, name in enumerate(names):
                if name not in found:
                    sentence = f"there is no profile {name!r}; {nearest(name, found)}"
                    wrong.append(file.document.error((key, index), sentence))
                all_names.add(name)
    profiles = tuple(found[name] for name in sorted(found) if name not in off)
    return ProfileSet(profiles, frozenset(named), tuple(wrong))


def shipped() -> list[ProfileFile]:
    """The shipped profiles. Blocking, for some milliseconds."""
    return [parse(file, by_admin=False) for file in sorted(_SHIPPED_FOLDER.glob("*.yaml"))]


def read_folder(folder: Path = ADMIN_FOLDER) -> tuple[list[ProfileFile], list[ConfigError]]:
    """The admin's profiles, and errors of files that are ignored. A missing folder is empty. Blocking."""
    files, errors = [], []
    try:
        names = sorted(one for one in folder.iterdir() if one.suffix == ".yaml" and one.name[0] not in ".#~")
    except FileNotFoundError:
        names = []
    except OSError as error:
        return [], [ConfigError(f"the folder cannot be read: {error.strerror}", file=folder)]
    for file in names:
        try:
            files.append(parse(file))
        except ConfigError as error:
            errors.append(error)
    return files, errors


def read_profiles(folder: Path = ADMIN_FOLDER) -> ProfileSet:
    """All profiles of this host. Blocking, for some milliseconds."""
    files, errors = read_folder(folder)
    return combine(shipped(), files, errors)


def read_host_profiles() -> ProfileSet:
    """The shipped ones, and those in `profiles.d` beside the folders of configurations: the system's, then the user's.

    Blocking, for some tens of milliseconds.
    """
    files, errors = [], []
    for folder in reversed(config_folders()):
        found, wrong = read_folder(folder.parent / "profiles.d")
        files += found
        errors += wrong
    return combine(shipped(), files, errors)


def _check_hex(conditions: Conditions | Ancestor) -> None:
    for key in ("vendor", "product"):
        value = getattr(conditions, key)
        if value is not None and not _HEX.fullmatch(value):
            raise FieldError(f"{value!r} is not a hex number; use four digits, such as '0403'", key)


def _texts(value: object, path: PathInFile) -> Iterator[tuple[PathInFile, str]]:
    """All texts in a value, with their positions."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*path, index))


def _check_template(text: str, path: PathInFile) -> None:
    try:
        words = [(word, form, how) for _, word, form, how in Formatter().parse(text) if word is not None]
    except ValueError as error:
        raise FieldError(f"{error}; write {{{{ for a brace", *path) from None
    for word, form, how in words:
        if word not in TEMPLATE_WORDS or form or how:
            raise FieldError(
                f"{{{word}}} is not a word for a template; {nearest(word, TEMPLATE_WORDS)}", *path
            )
