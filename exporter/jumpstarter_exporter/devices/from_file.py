"""Puts the board of a configuration file into an inventory, with the UUIDs that its devices had before."""

from __future__ import annotations

import os

from jumpstarter_exporter.config import ExporterConfig, build
from jumpstarter_exporter.devices.inventory import BoardDevices, Inventory
from jumpstarter_exporter.devices.layout import layout
from jumpstarter_exporter.devices.spec import walk
from jumpstarter_exporter.devices.uuids import device_uuids
from jumpstarter_exporter.state_directory import state_directory

__all__ = ["add_board", "check_board"]


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


def check_board(config: ExporterConfig) -> None:
    """Whether `add_board` can add it, so far as that is known without making its devices. Raises what that raises."""
    if config.discovered is None:
        layout(build(config, lenient=True))
