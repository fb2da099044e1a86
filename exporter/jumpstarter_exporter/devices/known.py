"""Remembers the devices that were discovered on this host, whether they are plugged in or not. No I/O.

A device keeps its name and its UUID as long as it has the same identity (see `identity`): a serial number at any port,
or a port with any node number. No other device gets that name. The data that is shown for a missing device is
remembered as well. `known_file` stores everything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import msgspec

from jumpstarter_exporter.devices.hwdb import Hwdb
from jumpstarter_exporter.devices.identity import IdentitySource, shared_serials
from jumpstarter_exporter.devices.match import Finding, Named, ProfileMatch, match_devices
from jumpstarter_exporter.devices.offer import HostUse
from jumpstarter_exporter.devices.profiles import ProfileSet
from jumpstarter_exporter.devices.udev_device import DeviceTree, usb_ids

__all__ = [
    "MAX_KNOWN",
    "MAX_KNOWN_PER_PORT",
    "Inspection",
    "KnownDevice",
    "KnownDevices",
    "KnownRecords",
    "PresentDevice",
]

MAX_KNOWN = 4096
"""Devices that are remembered; beyond that, those that were not seen for the longest time are forgotten."""
MAX_KNOWN_PER_PORT = 64
"""The same for those that were seen last at one USB port: a device may draw a new serial number at each plug, and would
push all others out."""
NOT_SEEN = "not seen since the start of the exporter"


class KnownDevice(msgspec.Struct, frozen=True, kw_only=True):
    """The last seen state of a device."""

    key: str
    """`ProfileMatch.key`."""
    uuid: UUID
    path: str
    """Its path in the device tree: `GROUP.NAME`, or `NAME`."""
    template: str
    """`ProfileMatch.template`."""
    profile: str
    interface: str
    type: str | None
    no_driver: str = ""
    config: dict[str, Any] = {}
    labels: dict[str, str] = {}
    description: str | None = None
    identity_source: IdentitySource
    identity: str
    """The serial number, the port or the path, for people."""
    identity_reason: str
    vendor: str = ""
    product: str = ""
    model: str = ""
    port: str = ""
    """The USB port, such as `1-1.4`; empty for other devices."""
    socket: str = ""
    """The same, stable over restarts of the host; see `UsbAddress`."""
    nodes: tuple[str, ...] = ()
    """Its device node, and the links to it."""

    @property
    def group(self) -> str:
        """The group in its path; empty if there is none."""
        return self.path.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition(".")[2]


class KnownRecords(msgspec.Struct, frozen=True):
    """Everything that is remembered of a host."""

    devices: tuple[KnownDevice, ...] = ()
    """Each key and each path once; the most recently seen are last."""
    groups: dict[str, UUID] = {}
    """UUIDs of the groups of the device tree, by name."""
    shared_serials: frozenset[str] = frozenset()
    """Serial numbers that two devices have had, so that they identify neither."""

    def __post_init__(self) -> None:
        """Check that nothing occurs twice. Raises ValueError."""
        uuids = [*(one.uuid for one in self.devices), *self.groups.values()]
        for what, values in (
            ("UUID", uuids),
            ("key", [one.key for one in self.devices]),
            ("name", [one.path for one in self.devices]),
        ):
            if len(set(values)) < len(values):
                raise ValueError(f"two devices have one {what}")


@dataclass(frozen=True)
class PresentDevice:
    """A device that is or was offered."""

    device: KnownDevice
    missing: str = ""
    """Why it is missing; empty if it is there."""
    match: ProfileMatch | None = None
    """In this inspection; None if it is missing."""
    sysfs_path: str = ""
    """The path of udev's device, if it is there."""


@dataclass(frozen=True)
class Inspection:
    """The result of one inspection of a host's devices."""

    findings: tuple[Finding, ...]
    devices: tuple[PresentDevice, ...]
    """All devices that are offered now, and all known ones that are missing, ordered by name."""
    known: KnownRecords
    """What must be stored."""


class KnownDevices:
    """Keeps devices from one inspection of the host to the next."""

    def __init__(self, known: KnownRecords | None = None, *, draw: Callable[[], UUID] = uuid4) -> None:
        """`draw` creates a UUID."""
        self._known = known or KnownRecords()
        self._draw = draw
        self._missing: dict[str, str] = {one.key: NOT_SEEN for one in self._known.devices}
        """Missing devices by key, with the reason."""

    @property
    def known(self) -> KnownRecords:
        """Everything that is remembered."""
        return self._known

    def forget(self, path: str) -> bool:
        """Forget a missing device; False if it is not missing, or if no device has that name."""
        left = tuple(one for one in self._known.devices if one.path != path or one.key not in self._missing)
        is_forgotten = len(left) < len(self._known.devices)
        groups = {group: uuid for group, uuid in self._known.groups.items() if group in _groups(left)}
        self._known = msgspec.structs.replace(self._known, devices=left, groups=groups)
        return is_forgotten

    def inspect(
        self, tree: DeviceTree, profiles: ProfileSet, hwdb: Hwdb, use: HostUse | None = None, *, now: str = ""
    ) -> Inspection:
        """Inspect the current devices. `now` is the time of day, for reasons."""
        shared = self._known.shared_serials | shared_serials(tree)
        before = _by_port(self._known.devices, shared)
        missing = {new: self._missing[old] for new, (old, _) in before.items() if old in self._missing}
        known = {key: device for key, (_, device) in before.items()}
        named = {key: Named(device.path, device.template) for key, device in known.items()}
        findings = tuple(match_devices(tree, profiles, hwdb, use, shared=shared, named=named))
        present: dict[str, PresentDevice] = {}
        for finding in findings:
            for match in (*finding.matches, *finding.conflicts):
                former = known.get(match.key)
                uuid = self._draw() if former is None else former.uuid
                device = _remembered(match, finding, tree, uuid)
                present[match.key] = PresentDevice(device, "", match, finding.device.path)
        # A device that is there but not or no longer offered is not missing, and keeps its name.
        others = {finding.identity.key for finding in findings}
        absent: dict[str, PresentDevice] = {}
        for key, device in known.items():
            if key not in present and key.removesuffix(f":{device.interface}") not in others:
                reason = missing.get(key) or (f"unplugged at {now}" if now else "unplugged")
                absent[key] = PresentDevice(device, reason)
        self._missing = {key: one.missing for key, one in absent.items()}
        # Present devices come last, in the order in which they were first seen.
        order = [*(key for key in known if key not in present), *(key for key in known if key in present)]
        order += [key for key in present if key not in known]
        devices = [present[key].device if key in present else known[key] for key in order]
        devices = _newest(devices, present.keys())
        groups = {group: self._known.groups.get(group) or self._draw() for group in sorted(_groups(devices))}
        self._known = KnownRecords(tuple(devices), groups, shared)
        every = sorted((*present.values(), *absent.values()), key=lambda one: one.device.path)
        kept = {device.key for device in devices}
        return Inspection(findings, tuple(one for one in every if one.device.key in kept), self._known)


def _newest(devices: list[KnownDevice], present: Collection[str]) -> list[KnownDevice]:
    """The devices that stay remembered, in their order; `present` has the keys of present ones."""
    counts = Counter(one.socket for one in devices if one.socket)
    left = []
    for one in devices:
        if counts[one.socket] > MAX_KNOWN_PER_PORT and one.key not in present:
            counts[one.socket] -= 1
        else:
            left.append(one)
    return left[max(0, len(left) - MAX_KNOWN) :]


def _by_port(
    devices: tuple[KnownDevice, ...], shared: frozenset[str]
) -> Mapping[str, tuple[str, KnownDevice]]:
    """Devices by their current keys, with the key before: a serial number that turned out to be shared is replaced.

    The device is then the one at the port where it was seen last.
    """
    taken = {one.key for one in devices}
    found: dict[str, tuple[str, KnownDevice]] = {}
    for one in devices:
        key = one.key
        if one.identity_source is IdentitySource.SERIAL and one.socket:
            serial, _, part = one.key.removeprefix("serial:").partition("/")
            new = f"port:{one.socket}/{one.vendor}:{one.product}/{part}"
            if serial in shared and new not in taken:
                key = new
                taken.add(new)
        found[key] = (one.key, msgspec.structs.replace(one, key=key))
    return found


def _remembered(match: ProfileMatch, finding: Finding, tree: DeviceTree, uuid: UUID) -> KnownDevice:
    device = finding.device
    usb = tree.usb_device(device)
    vendor, product = usb_ids(usb) if usb is not None else ("", "")
    address = tree.usb_address(device) if usb is not None else None
    return KnownDevice(
        key=match.key,
        uuid=uuid,
        path=match.path,
        template=match.template,
        profile=match.profile.name,
        interface=match.interface,
        type=match.type,
        no_driver=match.no_driver,
        config=dict(match.config),
        labels=dict(match.labels),
        description=match.description,
        identity_source=match.identity.source,
        identity=match.identity.value,
        identity_reason=match.identity.why,
        vendor=vendor,
        product=product,
        model=finding.facts.model,
        port="" if address is None else address.port,
        socket="" if address is None else address.socket,
        nodes=tuple(name for name in (device.node, *device.links) if name),
    )


def _groups(devices: tuple[KnownDevice, ...] | list[KnownDevice]) -> set[str]:
    return {one.group for one in devices if one.group}
