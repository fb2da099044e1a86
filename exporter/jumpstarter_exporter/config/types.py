"""Finds a driver's class by what a `type:` says.

`power.GpioRelay` is the class in our driver folder `power`. Names that other projects' files use are listed
by the driver folders themselves, in their manifests. Anything else is an import path, of anybody's class.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
from functools import cache
from pathlib import Path

from jumpstarter_proto.documents import nearest

from jumpstarter_exporter.driver import Driver

__all__ = ["UnknownTypeError", "known_types", "resolve"]

_PACKAGE = "jumpstarter_drivers"
_EXTRAS = {
    "serial": "exporter",
    "gpiozero": "exporter",
    "pyudev": "exporter",
    "usb": "exporter",
    "lgpio": "pi",
    "paho": "mqtt",
    "snmp": "snmp",
}
"""Modules that drivers need, and the extra of ours that brings them."""


class UnknownTypeError(ValueError):
    """A `type:` that leads to no driver; the message says why and what to do."""


def resolve(name: str) -> type[Driver]:
    """The class that a `type:` means; imports its module, and nothing else that needs hardware libraries.

    Raises:
        UnknownTypeError: see there.
    """
    path = _aliases().get(name)
    if path is None:
        head, _, tail = name.partition(".")
        path = f"{_PACKAGE}.{head}.driver.{tail}" if head in _folders() and tail and "." not in tail else name
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
    except ImportError as error:
        raise UnknownTypeError(
            f"the driver {name!r} cannot be loaded: {error}; check its installation"
        ) from error
    found = getattr(module, class_name, None)
    if found is None:
        raise UnknownTypeError(_unknown(name))
    if not (isinstance(found, type) and issubclass(found, Driver)):
        raise UnknownTypeError(
            f"{name!r} is no driver for this exporter; it takes a subclass of {Driver.__module__}.Driver"
        )
    if inspect.isabstract(found):
        made = [short for short in known_types() if (kind := _loaded(short)) and issubclass(kind, found)]
        raise UnknownTypeError(
            f"{name!r} is only the base of other drivers; use {' or '.join(made) or 'one of those'}"
        )
    for package in found.packages:
        if importlib.util.find_spec(package) is None:
            raise UnknownTypeError(_needs(name, package))
    return found


def known_types() -> list[str]:
    """Every short `type:` of our own drivers but those that are only bases of others."""
    names = [f"{name}.{cls}" for name, folder in _folders().items() for cls in _classes(folder / "driver.py")]
    return [name for name in names if _can_be_made(_loaded(name))]


def _can_be_made(kind: type | None) -> bool:
    """A driver module also offers bases, and what else other modules need. None is what is not installed."""
    return kind is None or (issubclass(kind, Driver) and not inspect.isabstract(kind))


def _loaded(short: str) -> type | None:
    """The class of a short type; None when what it needs is not installed."""
    folder, _, cls = short.partition(".")
    try:
        found = getattr(importlib.import_module(f"{_PACKAGE}.{folder}.driver"), cls, None)
    except ImportError:
        return None
    return found if isinstance(found, type) else None


def _unknown(name: str) -> str:
    import difflib  # noqa: PLC0415 - only for those who made a mistake

    short = known_types()
    close = difflib.get_close_matches(name, [*short, *_aliases()], n=1)
    package, dot, _ = name.partition(".")
    is_known = any(one.startswith(f"{package}.") for one in (*short, *_aliases()))
    cure = ""
    if dot and package.isidentifier() and not is_known and not _is_installed(package):
        cure, close = f"the Python package {package!r} is not installed: install what brings it; ", []
    return f"unknown type {name!r}; {cure}{nearest(name, close or short)}"


def _is_installed(package: str) -> bool:
    return package in sys.modules or importlib.util.find_spec(package) is not None


def _needs(name: str, module: str) -> str:
    top = module.partition(".")[0]
    extra = _EXTRAS.get(top)
    install = f"pip install 'jumpstarter-sbc[{extra}]'" if extra else f"install {top}"
    return f"the driver {name!r} needs the Python package {top!r}; {install}"


@cache
def _folders() -> dict[str, Path]:
    try:
        package = importlib.import_module(_PACKAGE)
    except ModuleNotFoundError:
        return {}
    return {
        manifest.parent.name: manifest.parent
        for place in package.__path__  # several, when a lab keeps drivers of its own
        for manifest in sorted(Path(place).glob("*/__init__.py"))
    }


@cache
def _aliases() -> dict[str, str]:
    found: dict[str, str] = {}
    for folder in _folders():
        manifest = importlib.import_module(f"{_PACKAGE}.{folder}")
        drivers: dict[str, str] = getattr(manifest, "DRIVERS", {})
        found |= {foreign: f"{_PACKAGE}.{folder}.driver.{cls}" for foreign, cls in drivers.items()}
    return found


def _classes(source: Path) -> list[str]:
    """What a driver module offers, read from its source."""
    try:
        tree = ast.parse(source.read_text())
    except (OSError, SyntaxError):
        return []
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in statement.targets
        ):
            names: list[str] = ast.literal_eval(statement.value)
            return names
    return []
