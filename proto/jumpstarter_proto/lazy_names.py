"""The public names of a package whose modules are imported when a name is used first."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

__all__ = ["lazy_names"]


def lazy_names(package: str, modules: Mapping[str, str]) -> Callable[[str], object]:
    """Return the `__getattr__` of a package: `modules` are the modules of its names, relative to the package.

    A name that was imported once is an attribute of the package, so `__getattr__` is called once for each.
    """

    def lookup(name: str) -> object:
        import importlib  # noqa: PLC0415 - importing a package must cost nothing

        module = modules.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(importlib.import_module(f"{package}.{module}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return lookup
