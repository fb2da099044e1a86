"""Devices of a configuration whose drivers are those of Jumpstarter 0.9.

Nothing of `hosting` is imported for a configuration without such devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from jumpstarter_proto.texts import shown
from jumpstarter_proto.yaml_files import Document

from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.config.model import DeviceEntry, ExporterConfig
from jumpstarter_exporter.config.types import is_found, is_own_type
from jumpstarter_exporter.devices.spec import Spec

if TYPE_CHECKING:
    from jumpstarter_exporter.hosting.groups import HostedGroups

__all__ = ["HostedDevices", "hosted_devices", "learn_hosted"]


class HostedDevices:
    """The hosted devices of one configuration."""

    def __init__(self, groups: HostedGroups) -> None:
        self.groups = groups

    def has(self, entry: DeviceEntry) -> bool:
        """Whether it is hosted, and its parent is not."""
        return _path(entry) in self.groups.by_path

    def spec(
        self, document: Document, entry: DeviceEntry, make_native: Callable[[DeviceEntry], Spec]
    ) -> Spec:
        """Its specification, from what was learned before (`learn_hosted`).

        Without that it cannot be used, which is no mistake in the file.

        Raises:
            ConfigError: its child cannot make it.
        """
        from jumpstarter_exporter.hosting.learning import learned  # noqa: PLC0415 - few hosts need it
        from jumpstarter_exporter.hosting.specs import hosted_spec  # noqa: PLC0415 - as above

        path = _path(entry)
        group = self.groups.by_path[path]
        report = learned(group)
        if report is None:
            return Spec(
                Composite,
                description=entry.description,
                type_name=entry.type or "",
                place=entry.path,
                fault=f"{path} is not known yet; the exporter starts its driver when the board is loaded",
                required=entry.required,
            )
        if isinstance(report, str):
            raise document.error((*entry.path, "type"), report)
        spec = hosted_spec(entry, group, report, self.groups.native, make_native)
        if spec is None:
            why = report.failed.get(path, "it is not in the report of its process")
            raise document.error(
                (*entry.path, "type"),
                f"{entry.type} cannot be made in {group.python}: {shown(why, 500)}; correct that, and run: "
                "jumpstarter-exporter reload",
            )
        return spec


def hosted_devices(entries: Mapping[str, DeviceEntry], python: str | None) -> HostedDevices | None:
    """The hosted devices of a board; None if it has none. `python` is the interpreter for all of them."""
    if not any(_may_be_hosted(entry, python) for entry in _all(entries)):
        return None
    from jumpstarter_exporter.hosting.environments import find_environment  # noqa: PLC0415 - few hosts need it
    from jumpstarter_exporter.hosting.groups import group_devices  # noqa: PLC0415 - as above

    groups = group_devices(entries, python, is_own=is_own_type, is_found=is_found, find=find_environment)
    return HostedDevices(groups) if groups.groups else None


async def learn_hosted(config: ExporterConfig) -> None:
    """Ask for the hosted devices of a board that is not in use, so that `build` does not wait for that."""
    hosted = hosted_devices(config.entries, config.settings.python)
    if hosted is not None:
        from jumpstarter_exporter.hosting.learning import learn  # noqa: PLC0415 - few hosts need it

        await learn(hosted.groups.groups, again=True)


def _may_be_hosted(entry: DeviceEntry, python: str | None) -> bool:
    return entry.type is not None and bool(entry.python or python or not is_found(entry.type))


def _all(entries: Mapping[str, DeviceEntry]) -> Iterator[DeviceEntry]:
    for entry in entries.values():
        yield entry
        yield from _all(entry.children)


def _path(entry: DeviceEntry) -> str:
    return ".".join(map(str, entry.path[1::2]))
