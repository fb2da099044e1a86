"""One inspection of a host's devices: present and offered devices, and those that were present before.

Blocking: it reads profiles, what the host uses itself and what is remembered, and imports the modules of drivers. It
opens no device. One thread at a time uses it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from jumpstarter_proto.yaml_files import ConfigError, Document

from jumpstarter_exporter.devices.host_use import read_host_use
from jumpstarter_exporter.devices.hwdb import shipped as shipped_tables
from jumpstarter_exporter.devices.known import KnownDevice, KnownDevices, PresentDevice
from jumpstarter_exporter.devices.known_file import KnownFile
from jumpstarter_exporter.devices.profiles import ProfileSet, read_host_profiles
from jumpstarter_exporter.devices.spec import Spec
from jumpstarter_exporter.devices.suggestion import unmatched
from jumpstarter_exporter.devices.udev_device import DeviceTree
from jumpstarter_exporter.serve.discovered_devices import DiscoveredDevice, spec_of

__all__ = ["Survey", "Surveyor"]


@dataclass(frozen=True)
class Survey:
    """The result of one inspection."""

    devices: tuple[DiscoveredDevice, ...] = ()
    """All devices that are offered and not used by a configuration, present or missing, ordered by name."""
    unmatched: tuple[str, ...] = ()
    """Nodes of devices of possible interest without a profile."""
    errors: tuple[ConfigError, ...] = ()
    """Errors of profiles."""


class Surveyor:
    """Keeps what is known between inspections."""

    def __init__(self, directory: Path) -> None:
        """`directory` is the state directory."""
        self._file = KnownFile(directory)
        self._devices: KnownDevices | None = None
        self._profiles: ProfileSet | None = None
        self._specs: dict[str, tuple[KnownDevice, Spec]] = {}

    @property
    def devices(self) -> KnownDevices:
        """What is remembered."""
        if self._devices is None:
            self._devices = KnownDevices(self._file.read())
        return self._devices

    def reload(self) -> None:
        """Read the profiles again at the next inspection."""
        self._profiles = None
        self._specs.clear()

    def survey(self, tree: DeviceTree, configured: Collection[str] = ()) -> Survey:
        """What there is now. `configured` are nodes that boards of configuration files use.

        Raises:
            UdevError: nobody knows what the host uses itself.
        """
        if self._profiles is None:
            self._profiles = read_host_profiles()
        now = time.strftime("%H:%M:%S")
        found = self.devices.inspect(tree, self._profiles, shipped_tables(), read_host_use(), now=now)
        self._file.write(found.known)
        names = _with_targets(configured)
        offered = [one for one in found.devices if not _is_used(one, tree, names)]
        self._specs = {
            key: self._specs[key] for key in self._specs if key in {one.device.key for one in found.devices}
        }
        return Survey(
            tuple(DiscoveredDevice(one.device, self._spec(one), one.missing) for one in offered),
            tuple(
                one.device.node or one.device.path
                for one in unmatched(tree, found.findings)
                if names.isdisjoint([one.device.node, *one.device.links])
            ),
            self._profiles.errors,
        )

    def forget(self, path: str) -> bool:
        """Forget a missing device; False if it is not missing, or if no device has that name."""
        is_forgotten = self.devices.forget(path)
        if is_forgotten:
            self._file.write(self.devices.known)
        return is_forgotten

    def _spec(self, one: PresentDevice) -> Spec:
        """The same object as before if the device has not changed."""
        before = self._specs.get(one.device.key)
        if before is not None and before[0] == one.device:
            return before[1]
        document = self._document(one)
        spec = spec_of(one.device, document)
        self._specs[one.device.key] = one.device, spec
        return spec

    def _document(self, one: PresentDevice) -> Document | None:
        if one.match is not None:
            return one.match.profile.document
        profiles = () if self._profiles is None else self._profiles.profiles
        return next((profile.document for profile in profiles if profile.name == one.device.profile), None)


def _with_targets(names: Iterable[str]) -> frozenset[str]:
    """With the nodes that the admin's links point to."""
    every = list(names)
    return frozenset([*every, *(os.path.realpath(name) for name in every)])


def _is_used(one: PresentDevice, tree: DeviceTree, configured: frozenset[str]) -> bool:
    """Whether a configuration names the device, or its USB device."""
    if not configured.isdisjoint(one.device.nodes):
        return True
    device = tree.get(one.sysfs_path) if one.sysfs_path else None
    usb = None if device is None else tree.usb_device(device)
    return usb is not None and not configured.isdisjoint([usb.node, *usb.links])
