"""Finds the driver class of a `type:`.

`power.GpioRelay` is the class GpioRelay of the driver package `power`: one of the folders here, a lab's own, or an
installed package (`jumpstarter_proto.driver_packages`). Names that other projects' files use are in the manifests, too.
Anything else is an import path, of anybody's class.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable

from jumpstarter_proto import driver_packages
from jumpstarter_proto.driver_packages import DriverPackage
from jumpstarter_proto.similar_names import most_similar
from jumpstarter_proto.yaml_files import nearest

from jumpstarter_exporter.driver import Driver

__all__ = ["EXTRAS", "UnknownTypeError", "is_found", "is_own_type", "known_types", "resolve"]

EXTRAS = {
    "serial": "exporter",
    "gpiozero": "exporter",
    "pyudev": "exporter",
    "usb": "exporter",
    "lgpio": "pi",
    "paho": "mqtt",
    "snmp": "snmp",
}
"""Modules that drivers need, and the extra that installs them."""


_UPSTREAM = "jumpstarter_driver_"
"""The beginning of the names of Jumpstarter 0.9's driver packages, which are not for this process."""


class UnknownTypeError(ValueError):
    """A `type:` without a driver; the message says why and what to do."""


def resolve(name: str) -> type[Driver]:
    """The class that a `type:` means; imports its module, and nothing else that needs hardware libraries.

    Raises:
        UnknownTypeError: see there.
    """
    path = _path(name)
    module_name, _, class_name = path.rpartition(".")
    if not module_name or not all(part.isidentifier() for part in path.split(".")):
        raise UnknownTypeError(_unknown(name))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name == missing or module_name.startswith(f"{missing}."):
            raise UnknownTypeError(_unknown(name)) from None
        raise UnknownTypeError(_needs(name, missing)) from None
    except (Exception, SystemExit) as error:  # whatever the module of somebody else raises
        raise UnknownTypeError(
            f"the driver {name!r} cannot be loaded: {str(error) or type(error).__name__}; check its installation"
        ) from error
    found = getattr(module, class_name, None)
    if found is None:
        raise UnknownTypeError(_unknown(name))
    if not (isinstance(found, type) and issubclass(found, Driver)):
        raise UnknownTypeError(
            f"{name!r} is not a driver for this exporter; use a subclass of {Driver.__module__}.Driver"
        )
    if inspect.isabstract(found):
        made = [
            short for short in known_types() if (kind := _loaded(_path(short))) and issubclass(kind, found)
        ]
        raise UnknownTypeError(
            f"{name!r} is only the base of other drivers; use {' or '.join(made) or 'one of those'}"
        )
    for package in found.packages:
        if importlib.util.find_spec(package) is None:
            raise UnknownTypeError(_needs(name, package))
    return found


def is_own_type(name: str) -> bool:
    """Whether it is a short name of ours, such as `power.GpioRelay`, and not one that other projects use, too."""
    return not name.startswith(_UPSTREAM) and name in {
        short for package in driver_packages.folder_packages() for short in package.types
    }


def is_found(name: str) -> bool:
    """Whether its class may be one for this exporter, as far as that is known without importing it."""
    if _path(name) != name:
        return True
    top = name.partition(".")[0]
    return "." not in name or not top.isidentifier() or (not top.startswith(_UPSTREAM) and _is_installed(top))


def known_types() -> list[str]:
    """Every short `type:` of the driver packages but those that are only bases of others."""
    types = {name: path for package in driver_packages.all_packages() for name, path in package.types.items()}
    return [name for name, path in types.items() if _can_be_made(_loaded(path))]


def _can_be_made(kind: type | None) -> bool:
    """A driver module also contains base classes and shared code. None if a requirement is not installed."""
    return kind is None or (issubclass(kind, Driver) and not inspect.isabstract(kind))


def _loaded(path: str) -> type | None:
    """The class of that path; None when what it needs is not installed."""
    module, _, cls = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), cls, None)
    except (Exception, SystemExit):  # a package of somebody else; who uses the type is told
        return None
    return found if isinstance(found, type) else None


def _unknown(name: str) -> str:
    short = known_types()
    aliases = [alias for one in driver_packages.all_packages() for alias in one.type_aliases]
    meant = most_similar(name, [*short, *aliases])
    close = [meant] if meant else []
    package, dot, _ = name.partition(".")
    is_known = any(one.startswith(f"{package}.") for one in (*short, *aliases))
    cure = ""
    if dot and package.isidentifier() and not is_known and not _is_installed(package):
        cure, close = (
            f"the Python package {package!r} is not installed: install what brings it; "
            + (
                "a driver of Jumpstarter 0.9 needs an environment with both: `python: /PATH/bin/python`; "
                if package.startswith(_UPSTREAM)
                else ""
            ),
            [],
        )
    return f"unknown type {name!r}; {cure}{nearest(name, close or short)}"


def _is_installed(package: str) -> bool:
    return package in sys.modules or importlib.util.find_spec(package) is not None


def _needs(name: str, module: str) -> str:
    top = module.partition(".")[0]
    extra = EXTRAS.get(top)
    install = f"pip install 'jumpstarter-sbc[{extra}]'" if extra else f"install {top}"
    return f"the driver {name!r} needs the Python package {top!r}; {install}"


def _path(name: str) -> str:
    """The full path of the class. Entry points are read only for a name that no driver folder has."""
    if path := _class_of(name, driver_packages.folder_packages()):
        return path
    head, _, tail = name.partition(".")
    if tail and "." not in tail and (folder := driver_packages.folder_package(head)) is not None:
        return folder.manifest.path(f"driver.{tail}")  # a base of others, which its manifest does not name
    path = _class_of(name, driver_packages.installed_packages())
    driver_packages.report_problems()
    return path or name


def _class_of(name: str, packages: Iterable[DriverPackage]) -> str:
    return next(filter(None, (one.type_aliases.get(name) or one.types.get(name) for one in packages)), "")
