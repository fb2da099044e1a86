"""Makes the specifications of discovered devices, as the config builder does for a file's entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from jumpstarter_proto.yaml_files import Document

from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.config.builder import build_entry
from jumpstarter_exporter.config.model import DeviceEntry
from jumpstarter_exporter.devices.known import KnownDevice
from jumpstarter_exporter.devices.spec import Spec

__all__ = [
    "IDENTITY",
    "IDENTITY_REASON",
    "PORT",
    "PROFILE",
    "DeviceTreeContent",
    "DiscoveredDevice",
    "spec_of",
    "tree_of",
]

IDENTITY = "jumpstarter.dev/identity"
IDENTITY_REASON = "jumpstarter.dev/identity-reason"
PORT = "jumpstarter.dev/port"
PROFILE = "jumpstarter.dev/profile"
"""Labels of a discovered device."""


@dataclass(frozen=True)
class DiscoveredDevice:
    """A device and its specification in a board's tree."""

    device: KnownDevice
    spec: Spec
    missing: str
    """Why it is missing; empty if it is there."""


@dataclass(frozen=True)
class DeviceTreeContent:
    """The devices of a board of discovered devices."""

    spec: Spec
    uuids: Mapping[str, UUID]
    """By path."""
    missing: Mapping[str, str]
    """Why devices are missing, by path; empty for present ones."""

    def same_as(self, other: DeviceTreeContent) -> bool:
        """Whether the devices are the same, present or missing."""
        mine, others = _devices(self.spec), _devices(other.spec)
        return (
            self.uuids == other.uuids
            and mine.keys() == others.keys()
            and all(mine[key] is others[key] for key in mine)
        )


def spec_of(device: KnownDevice, document: Document | None = None) -> Spec:
    """One device. Without a driver, or if its driver does not take it, it has a fault with the reason.

    `document` is its profile's, for the place of a fault. Imports the driver's module, so it blocks for that long. No
    hardware is touched.
    """
    path = ("profiles", device.profile)
    if device.type is None:
        spec = Spec(Composite, fault=device.no_driver, description=device.description, place=path)
    else:
        entry = DeviceEntry(
            path, type=device.type, config=dict(device.config), description=device.description
        )
        spec = build_entry(document or Document(Path("discovered.json"), "profiles", b"{}"), entry)
    labels = {
        IDENTITY: f"{device.identity_source.value} {device.identity}",
        IDENTITY_REASON: device.identity_reason,
        PROFILE: device.profile,
    }
    if device.port:
        labels[PORT] = device.port
    return replace(spec, given_labels={**labels, **device.labels})


def tree_of(
    devices: Iterable[DiscoveredDevice], groups: Mapping[str, UUID], description: str = ""
) -> DeviceTreeContent:
    """The root of all of them, below their groups, which have the UUIDs of `groups`."""
    every = list(devices)
    grouped: dict[str, dict[str, Spec]] = {}
    for one in every:
        grouped.setdefault(one.device.group, {})[one.device.name] = one.spec
    children = {name: Spec(Composite, children=below) for name, below in grouped.items() if name}
    root = Spec(Composite, children={**children, **grouped.get("", {})}, description=description or None)
    uuids = {one.device.path: one.device.uuid for one in every}
    uuids |= {name: groups[name] for name in children if name in groups}
    return DeviceTreeContent(root, uuids, {one.device.path: one.missing for one in every})


def _devices(root: Spec) -> dict[str, Spec]:
    """All that are not groups of ours, by path."""
    found: dict[str, Spec] = {}
    for name, child in root.children.items():
        if child.kind is Composite and not child.fault and not child.given_labels:
            found |= {f"{name}.{inner}": spec for inner, spec in child.children.items()}
        else:
            found[name] = child
    return found
