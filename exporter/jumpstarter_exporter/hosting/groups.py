"""Decides which devices of a configuration are hosted, and which of them share a child. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from jumpstarter_proto.json_texts import parse_json
from jumpstarter_proto.yaml_files import PathInFile

from jumpstarter_exporter.config.model import DeviceEntry
from jumpstarter_exporter.hosting.environments import Environment

__all__ = ["HostedGroup", "HostedGroups", "device_path", "group_devices"]

STAND_IN: Mapping[str, Any] = {"type": "__main__.StandIn"}
"""In the child, the place of a device that is not in the child."""


@dataclass(frozen=True)
class HostedGroup:
    """Devices that share a child. Two groups are equal if a child of one can serve the other."""

    python: str
    devices: str
    """JSON: by path, as in a configuration of Jumpstarter 0.9."""

    @property
    def paths(self) -> list[str]:
        """The paths of its devices, without those below them."""
        return list(parse_json(self.devices))

    def __str__(self) -> str:
        return f"the process for {', '.join(self.paths)}"


@dataclass
class HostedGroups:
    """The hosted devices of a board."""

    groups: list[HostedGroup] = field(default_factory=list)
    by_path: dict[str, HostedGroup] = field(default_factory=dict)
    """By the path of each device whose parent is not hosted."""
    native: set[PathInFile] = field(default_factory=set)
    """Entries below hosted devices that are devices of ours."""


def device_path(entry: DeviceEntry) -> str:
    """Names from the top of the board's tree, joined by dots."""
    return ".".join(map(str, entry.path[1::2]))


def group_devices(
    entries: Mapping[str, DeviceEntry],
    default_python: str | None,
    *,
    is_own: Callable[[str], bool],
    is_found: Callable[[str], bool],
    find: Callable[[str], Environment | None],
) -> HostedGroups:
    """Group the hosted devices.

    With `python:` of the entry or the board, a type is hosted unless it `is_own`: a short name such as
    `power.GpioRelay`. Otherwise it is hosted if it is not `is_found` here, and `find` knows an environment.
    """
    planner = _Planner(default_python, is_own, is_found, find)
    tops = list(planner.tops(entries))
    members: dict[tuple[str, str], list[DeviceEntry]] = {}
    places: dict[str, tuple[str, str]] = {}
    for entry, python in tops:
        path = device_path(entry)
        places[path] = (python, path if entry.own_process else "")
        members.setdefault(places[path], []).append(entry)
    found = HostedGroups(native=planner.native)
    for place, devices in members.items():
        together = {path for path, other in places.items() if other == place}
        instances = {device_path(one): planner.instance(one, place[0], together) for one in devices}
        group = HostedGroup(place[0], msgspec.json.encode(instances).decode())
        found.groups.append(group)
        found.by_path |= dict.fromkeys(instances, group)
    return found


@dataclass
class _Planner:
    default_python: str | None
    is_own: Callable[[str], bool]
    is_found: Callable[[str], bool]
    find: Callable[[str], Environment | None]
    native: set[PathInFile] = field(default_factory=set)

    def tops(self, entries: Mapping[str, DeviceEntry]) -> Iterator[tuple[DeviceEntry, str]]:
        for entry in entries.values():
            python = self._python(entry)
            if python is None:
                yield from self.tops(entry.children)
            else:
                yield entry, python

    def _python(self, entry: DeviceEntry) -> str | None:
        if entry.type is None:
            return None
        if (named := entry.python or self.default_python) is not None:
            return None if self.is_own(entry.type) else named
        if self.is_found(entry.type) or (environment := self.find(entry.type)) is None:
            return None
        return environment.python

    def instance(self, entry: DeviceEntry, python: str, together: set[str]) -> Mapping[str, Any]:
        """The device as a child gets it."""
        if entry.ref is not None:
            names = entry.ref.split(".")
            beginnings = {".".join(names[:length]) for length in range(1, len(names) + 1)}
            return {"ref": entry.ref} if beginnings & together else STAND_IN
        if entry.type is not None and self._stays_native(entry, python):
            self.native.add(entry.path)
            return STAND_IN
        children = {name: self.instance(child, python, together) for name, child in entry.children.items()}
        if entry.type is None:
            return {"children": children}
        return {
            "type": entry.type,
            "config": entry.config,
            "description": entry.description,
            "methods_description": entry.methods_description,
            "children": children,
        }

    def _stays_native(self, entry: DeviceEntry, python: str) -> bool:
        """Below a hosted device, a type that the environment has is hosted: its parent may use it as an object."""
        assert entry.type is not None
        if self.is_own(entry.type):
            return True
        top = entry.type.partition(".")[0]
        return entry.python is None and not Environment(python).has_module(top) and self.is_found(entry.type)
