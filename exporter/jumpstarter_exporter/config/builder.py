"""Makes the devices of a configuration. No hardware is touched: that is for their first use."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from jumpstarter_proto.documents import ConfigError, Document, PathInFile, check_value, nearest

from jumpstarter_exporter.arguments import hints
from jumpstarter_exporter.composite import Composite, Proxy, Unavailable
from jumpstarter_exporter.config.model import Entry, ExporterConfig
from jumpstarter_exporter.config.types import UnknownTypeError, resolve
from jumpstarter_exporter.driver import Driver
from jumpstarter_exporter.guests import contained
from jumpstarter_exporter.tree import Tree, TreeError

__all__ = ["build"]

_log = logging.getLogger(__name__)


def build(config: ExporterConfig, *, lenient: bool = False) -> Driver:
    """The root, a composite of everything that is exported.

    If `lenient`, a device that cannot be made is `Unavailable` and a warning, as long as there is another one.

    Raises:
        ConfigError: a type is unknown, a device's `config` is not what its driver takes, its driver does not
            take it, a `ref` leads nowhere.
    """
    document = config.document
    builder = _Builder(document)
    root = Composite(
        description=config.settings.description,
        children={name: builder.device(entry) for name, entry in config.entries.items()},
    )
    if builder.errors and not (lenient and builder.made):
        raise builder.errors[0]
    for error in builder.errors:
        _log.warning("%s (the other devices are served)", error)
    try:
        Tree(root)
    except TreeError as error:
        raise document.error(_path_of(config.entries, error.path), error.message) from None
    return root


class _Builder:
    """Makes devices, and collects what is wrong with those that cannot be made."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.errors: list[ConfigError] = []
        self.made = 0
        """Devices with a driver of their own."""

    def device(self, entry: Entry) -> Driver:
        """With its children; `Unavailable` when it cannot be made."""
        children = {name: self.device(child) for name, child in entry.children.items()}
        try:
            driver = _device(self._document, entry, children)
        except ConfigError as error:
            self.errors.append(error)
            return Unavailable(reason=str(error), children=children, description=entry.description)
        self.made += entry.type is not None
        return driver


def _device(document: Document, entry: Entry, children: dict[str, Driver]) -> Driver:
    if entry.ref is not None:
        return _made(document, entry, Proxy, {"ref": entry.ref}, (*entry.path, "ref"))
    kind: type[Driver] = Composite
    where = entry.path
    if entry.type is not None:
        where = (*entry.path, "config") if entry.config else entry.path
        try:
            with contained(f"the module of {entry.type}"):
                kind = resolve(entry.type)
        except UnknownTypeError as error:
            raise document.error((*entry.path, "type"), str(error)) from None
        except Exception as error:  # any driver's module; its neighbours must be served
            raise document.error(
                (*entry.path, "type"), f"{entry.type} cannot be loaded: {error}; see its code"
            ) from error
    values = _values(document, entry, kind)
    if children:
        values["children"] = children
    if entry.description is not None:
        values["description"] = entry.description
    if entry.methods_description:
        values["methods_description"] = entry.methods_description
    return _made(document, entry, kind, values, where)


def _values(document: Document, entry: Entry, kind: type[Driver]) -> dict[str, Any]:
    fields = _fields(kind)
    path = (*entry.path, "config")
    for key in entry.config:
        if key not in fields:
            raise document.error((*path, key), f"{entry.type} has no key {key!r}; {nearest(key, fields)}")
    for key, (_, required) in fields.items():
        if required and key not in entry.config:
            raise document.error(
                path if entry.config else entry.path,
                f"{entry.type} needs the key {key!r} in `config`; add it",
            )
    return {
        key: check_value(document, value, fields[key][0], (*path, key)) for key, value in entry.config.items()
    }


def _fields(kind: type[Driver]) -> dict[str, tuple[Any, bool]]:
    """The keys that a driver takes: their types, and whether they must be there."""
    types: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        types |= hints(base) if dataclasses.is_dataclass(base) else {}
    return {
        field.name: (
            types[field.name],
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
        )
        for field in dataclasses.fields(kind)
        if field.init and field.name != "children"
    }


def _made(
    document: Document, entry: Entry, kind: type[Driver], values: dict[str, Any], where: PathInFile
) -> Driver:
    try:
        with contained(f"{entry.type}.__init__()"):
            return kind(**values)
    except ValueError as error:
        raise document.error(where, str(error)) from None
    except Exception as error:  # any driver's own code; its neighbours must be served
        raise document.error(where, f"{entry.type} cannot be made: {error}; see its driver's code") from error
    raise AssertionError


def _path_of(entries: dict[str, Entry], dotted: str) -> PathInFile:
    """Where in the file a device's path leads, as far as it does."""
    path: PathInFile = ("export",)
    for name in dotted.split("."):
        entry = entries.get(name)
        if entry is None:
            break
        path, entries = entry.path, entry.children
    return path
