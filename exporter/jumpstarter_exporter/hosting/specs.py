"""Makes the specifications of hosted devices from what their child has reported. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from jumpstarter_proto.yaml_files import PathInFile

from jumpstarter_exporter.config.model import DeviceEntry
from jumpstarter_exporter.devices.spec import Spec, SpecOrigin
from jumpstarter_exporter.hosting.child_messages import HostedDevice, Ready
from jumpstarter_exporter.hosting.driver import hosted_kind
from jumpstarter_exporter.hosting.groups import HostedGroup, device_path

__all__ = ["hosted_spec"]


def hosted_spec(
    entry: DeviceEntry,
    group: HostedGroup,
    report: Ready,
    native: Collection[PathInFile],
    make_native: Callable[[DeviceEntry], Spec],
) -> Spec | None:
    """A hosted device with those below it; None if the report lacks it.

    `make_native` makes the specifications of second names, and of `native` entries.
    """
    path = device_path(entry)
    specs = _Specs(group, {one.path: one for one in report.devices}, native, make_native)
    if path not in specs.devices:
        return None
    return replace(specs.below(path, entry), origin=SpecOrigin.CONFIGURED)


@dataclass
class _Specs:
    group: HostedGroup
    devices: dict[str, HostedDevice]
    native: Collection[PathInFile]
    make_native: Callable[[DeviceEntry], Spec]
    _parts: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in self.devices:
            parent, _, name = path.rpartition(".")
            self._parts.setdefault(parent, []).append(name)

    def below(self, path: str, entry: DeviceEntry | None) -> Spec:
        """`entry` is that of the file, if the device has one: its driver may have made it."""
        device = self.devices[path]
        children: dict[str, Spec] = {}
        entries = {} if entry is None else entry.children
        for name, child in entries.items():
            if child.ref is not None or child.path in self.native:
                children[name] = self.make_native(child)
            elif f"{path}.{name}" in self.devices:
                children[name] = self.below(f"{path}.{name}", child)
        for name in self._parts.get(path, ()):
            if name not in children:
                children[name] = self.below(f"{path}.{name}", None)
        values = {"group": self.group, "path": path, "methods": device.methods, "labels": device.own_labels}
        return Spec(
            hosted_kind(device.client),
            values,
            children,
            SpecOrigin.PART,
            device.description,
            device.methods_description,
            type_name="" if entry is None else entry.type or "",
            place=() if entry is None else entry.path,
            required=entry is not None and entry.required,
        )
