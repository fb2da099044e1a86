"""Which client classes and interfaces the driver packages bring; importing a manifest loads no client class."""

from __future__ import annotations

from collections.abc import Iterable

from jumpstarter_proto import driver_packages
from jumpstarter_proto.driver_packages import DriverPackage

__all__ = ["client_classes", "interface_client", "interfaces", "summaries"]

GROUP = "composite"
"""Interface of devices that only hold others."""


def interfaces() -> dict[str, str]:
    """By interface that has verbs: the full path of the client class that defines them."""
    return _verbs_clients(driver_packages.all_packages())


def summaries() -> dict[str, str]:
    """By interface that has verbs: what they are for, in a few words; empty if its package does not say."""
    classes = interfaces()
    return {
        package.manifest.interface: package.manifest.summary
        for package in driver_packages.all_packages()
        if classes.get(package.manifest.interface) == package.verbs_client
    }


def interface_client(interface: str) -> str:
    """The full path of the client class that defines an interface's verbs; empty if there is none.

    Entry points are read only for an interface that no driver folder has.
    """
    same_name = driver_packages.folder_package(interface)
    if (
        same_name is not None
        and same_name.manifest.interface == interface != GROUP
        and same_name.verbs_client
    ):
        return same_name.verbs_client
    found = _verbs_clients(driver_packages.folder_packages()).get(interface)
    return found or interfaces().get(interface, "")


def client_classes(packages: Iterable[DriverPackage]) -> dict[str, tuple[str, str]]:
    """By what a report may call it: the full path of a client class, and its interface."""
    return {
        name: (path, package.manifest.interface)
        for package in packages
        for name, path in package.clients.items()
    }


def _verbs_clients(packages: Iterable[DriverPackage]) -> dict[str, str]:
    found: dict[str, str] = {}
    for package in packages:
        if package.manifest.interface != GROUP and package.verbs_client:
            found.setdefault(package.manifest.interface, package.verbs_client)
    return found
