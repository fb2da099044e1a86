"""Adds the board of a configuration file to an inventory, with the UUIDs that its devices had before."""

from __future__ import annotations

import os

from jumpstarter_proto.yaml_files import ConfigError, PathInFile

from jumpstarter_exporter.config import ExporterConfig, build
from jumpstarter_exporter.devices.inventory import BoardDevices, Inventory
from jumpstarter_exporter.devices.layout import layout
from jumpstarter_exporter.devices.spec import walk
from jumpstarter_exporter.devices.uuids import device_uuids
from jumpstarter_exporter.paths import state_directory

__all__ = ["add_board", "check_board", "first_fault"]


def add_board(inventory: Inventory, config: ExporterConfig) -> BoardDevices:
    """A device that cannot be made is one that has failed. Blocking, for some milliseconds.

    Raises:
        ConfigError: not one device can be made, or a `ref` leads nowhere.
    """
    if config.discovered is not None:
        return config.discovered.add_to(inventory)
    spec = build(config, lenient=True)
    name = config.board_name
    paths = [path for path, _ in walk(spec) if path]
    uuids = device_uuids(paths, directory=state_directory(os.environ), board=name, file=config.file)
    return inventory.add(name, spec, uuids)


def check_board(config: ExporterConfig, before: ExporterConfig) -> None:
    """Check that `add_board` can add the board and that no device is newly invalid, without creating devices.

    Devices that were invalid `before`, for example because their driver is not installed, do not matter.

    Raises:
        ConfigError: as `add_board`; or a new device, or one that was valid before, is invalid.
    """
    if config.discovered is not None:
        return
    faults: dict[PathInFile, ConfigError] = {}
    layout(build(config, lenient=True, faults=faults))
    known: dict[PathInFile, ConfigError] = {}
    if faults and before.discovered is None:
        build(before, lenient=True, faults=known)
    for place, fault in faults.items():
        if place not in known:
            raise fault


def first_fault(config: ExporterConfig) -> ConfigError | None:
    """Why a device of a board that was added cannot be created: the first one of its file; None if all can."""
    faults: dict[PathInFile, ConfigError] = {}
    if config.discovered is None:
        build(config, lenient=True, faults=faults)
    return next(iter(faults.values()), None)
