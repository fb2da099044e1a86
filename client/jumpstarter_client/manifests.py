"""What driver folders say of themselves, found by scanning; importing a manifest loads no driver."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from types import ModuleType

__all__ = ["interfaces", "manifests"]

DRIVERS = "jumpstarter_drivers"
GROUP = "composite"
"""Interface of devices that only hold others."""


def manifests() -> Iterator[ModuleType]:
    """The manifest of every driver folder, in order of their names; none when no drivers are installed."""
    try:
        package = importlib.import_module(DRIVERS)
    except ModuleNotFoundError:
        return
    for location in package.__path__:  # several, when a lab keeps drivers of its own
        for folder in sorted(os.listdir(location)):
            if os.path.isfile(f"{location}/{folder}/client.py"):
                yield importlib.import_module(f"{DRIVERS}.{folder}")


def interfaces() -> dict[str, tuple[str, str]]:
    """By interface that has verbs: the module and class of the client that defines them."""
    found: dict[str, tuple[str, str]] = {}
    for manifest in manifests():
        if manifest.INTERFACE == GROUP:
            continue
        for name in manifest.CLIENTS.values():
            found.setdefault(manifest.INTERFACE, (f"{manifest.__name__}.client", name))
    return found
