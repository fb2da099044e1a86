"""Creates the specifications of the devices in a configuration. Hardware is not used before the first call.

One object of each driver is created and thrown away, because only its constructor can check the values and knows
which children it creates.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from jumpstarter_proto.yaml_files import ConfigError, Document, Mistakes, PathInFile, check_value, nearest

from jumpstarter_exporter.arguments import hints
from jumpstarter_exporter.composite import Composite, Proxy, Unavailable
from jumpstarter_exporter.config.hosted import HostedDevices, hosted_devices
from jumpstarter_exporter.config.model import DeviceEntry, ExporterConfig, check_command
from jumpstarter_exporter.config.reader import read_parts
from jumpstarter_exporter.config.types import UnknownTypeError, resolve
from jumpstarter_exporter.devices.layout import TreeError, layout, tree_errors
from jumpstarter_exporter.devices.spec import Spec, SpecOrigin, adopt, parts_of
from jumpstarter_exporter.driver import Driver
from jumpstarter_exporter.isolation import isolated

__all__ = ["build", "build_entry", "find_mistakes"]

_log = logging.getLogger(__name__)


def build(
    config: ExporterConfig, *, lenient: bool = False, faults: dict[PathInFile, ConfigError] | None = None
) -> Spec:
    """The root, a composite of everything that is exported.

    If `lenient`, a device that cannot be made has a `fault` and is a warning, as long as there is another one. With
    `faults` it is put in there instead, by its device's place in the file.

    Raises:
        ConfigError: a type is unknown, a device's `config` is not what its driver takes, its driver does not
            take it, a `ref` leads nowhere.
    """
    document = config.document
    builder = _Builder(document, hosted_devices(config.entries, config.settings.python))
    root = Spec(
        Composite,
        description=config.settings.description,
        children={name: builder.device(entry)[0] for name, entry in config.entries.items()},
    )
    wrong = _tree_mistakes(config, root)
    if not (lenient and builder.made):
        wrong += builder.errors.values()
    mistakes = Mistakes()
    mistakes.add(*_in_order(wrong))
    mistakes.check(check_command(document.file))
    if faults is not None:
        faults |= builder.errors
    for error in builder.errors.values() if faults is None else ():
        _log.warning("%s (the other devices are served)", error)
    try:
        layout(root)
    except TreeError as error:
        raise document.error(_path_of(config.entries, error.path), error.message) from None
    return root


def _in_order(errors: Iterable[ConfigError]) -> list[ConfigError]:
    """Errors of one file, as they are in it."""
    return sorted(errors, key=lambda error: (error.line or 0, error.column or 0))


def _tree_mistakes(config: ExporterConfig, root: Spec) -> list[ConfigError]:
    return [
        config.document.error(_path_of(config.entries, error.path), error.message)
        for error in tree_errors(root)
    ]


def find_mistakes(file: Path, raw: bytes) -> tuple[ConfigError, ...]:
    """All mistakes of a file with this content, in its order; also those beside what cannot be read."""
    mistakes = Mistakes()
    with mistakes.collected():
        config = read_parts(Document(file, "export", raw, mistakes=mistakes), mistakes)
        if not mistakes.errors:
            build(config)
        else:
            builder = _Builder(config.document, hosted_devices(config.entries, config.settings.python))
            root = Spec(Composite, children={n: builder.device(e)[0] for n, e in config.entries.items()})
            mistakes.add(*builder.errors.values(), *_tree_mistakes(config, root))
    return tuple(_in_order(mistakes.errors))


def build_entry(document: Document, entry: DeviceEntry) -> Spec:
    """One device and those below it.

    A device that cannot be created has a `fault`, with its position in the document.
    """
    spec, _ = _Builder(document, hosted_devices({str(entry.path[-1]): entry}, None)).device(entry)
    return spec


class _Builder:
    """Makes specifications, and collects the errors of devices that cannot be created."""

    def __init__(self, document: Document, hosted: HostedDevices | None) -> None:
        self._document = document
        self._hosted = hosted
        self.errors: dict[PathInFile, ConfigError] = {}
        """By the positions of the devices."""
        self.made = 0
        """Devices with a driver of their own."""

    def device(self, entry: DeviceEntry) -> tuple[Spec, Driver]:
        """The specification with its children, and the object that was created of it as a check."""
        if entry.fault is not None:
            return self._with_all_mistakes(entry, entry.fault)
        if self._hosted is not None and self._hosted.has(entry):
            return self._hosted_device(self._hosted, entry)
        below = {name: self.device(child) for name, child in entry.children.items()}
        children = {name: spec for name, (spec, _) in below.items()}
        tried = {name: driver for name, (_, driver) in below.items()}
        try:
            spec = self._spec(entry, children)
            made = self._try(entry, spec, tried)
        except ConfigError as error:
            return self._faulty(entry, children, error)
        self.made += entry.type is not None
        found = {
            name: adopt(child, SpecOrigin.FOUND)
            for name, child in made.children.items()
            if name not in spec.children
        }
        return replace(spec, children={**spec.children, **found}, labels=_extra_labels(made)), made

    def _with_all_mistakes(self, entry: DeviceEntry, fault: ConfigError) -> tuple[Spec, Driver]:
        """A device that has mistakes in its own keys: with those of its type and its `config`, too."""
        children = {name: self.device(child)[0] for name, child in entry.children.items()}
        mistakes = Mistakes()
        mistakes.add(fault)
        is_hosted = self._hosted is not None and self._hosted.has(entry)
        if entry.type is not None and not is_hosted:
            with mistakes.collected():
                kind = self._kind(entry, entry.type)
                if not entry.is_partial:
                    _values(self._document, entry, kind)
        try:
            mistakes.check()
        except ConfigError as error:
            fault = error
        return self._faulty(entry, children, fault)

    def _faulty(
        self, entry: DeviceEntry, children: dict[str, Spec], error: ConfigError
    ) -> tuple[Spec, Driver]:
        self.errors[entry.path] = error
        spec = Spec(Composite, {}, children, fault=str(error), description=entry.description)
        spec = replace(spec, required=entry.required, type_name=entry.type or "", place=entry.path)
        return spec, Unavailable(reason=str(error))

    def _hosted_device(self, hosted: HostedDevices, entry: DeviceEntry) -> tuple[Spec, Driver]:
        try:
            spec = hosted.spec(self._document, entry, lambda child: self.device(child)[0])
        except ConfigError as error:
            return self._faulty(entry, {}, error)
        self.made += 1
        return spec, spec.make()

    def _spec(self, entry: DeviceEntry, children: dict[str, Spec]) -> Spec:
        document = self._document
        if entry.ref is not None:
            return Spec(Proxy, {"ref": entry.ref}, place=entry.path)
        kind = Composite if entry.type is None else self._kind(entry, entry.type)
        for key, is_given in (("python", entry.python is not None), ("ownProcess", entry.own_process)):
            if is_given:
                raise document.error(
                    (*entry.path, key),
                    f"{key!r} is for drivers of Jumpstarter 0.9, and {entry.type} is one of this exporter; remove it",
                )
        values = _values(document, entry, kind)
        with _faults(document, entry, "parts()"):
            parts = parts_of(kind, values)
        for name in parts:
            if name in children:
                raise document.error(
                    (*entry.path, "children", name),
                    f"{entry.type} has a child {name} by itself; give this one another name",
                )
        return Spec(
            kind,
            values,
            {**children, **parts},
            description=entry.description,
            methods_description=entry.methods_description,
            type_name=entry.type or "",
            place=entry.path,
            required=entry.required,
        )

    def _kind(self, entry: DeviceEntry, name: str) -> type[Driver]:
        place = (*entry.path, "type")
        try:
            with isolated(f"the module of {name}"):
                return resolve(name)
        except UnknownTypeError as error:
            raise self._document.error(place, str(error)) from None
        except Exception as error:  # any driver's module; its neighbours must be served
            raise self._document.error(place, f"{name} cannot be loaded: {error}; see its code") from error

    def _try(self, entry: DeviceEntry, spec: Spec, tried: dict[str, Driver]) -> Driver:
        with _faults(self._document, entry, "__init__()"):
            parts = {
                name: part.make() for name, part in spec.children.items() if part.origin is SpecOrigin.PART
            }
            return spec.construct({**tried, **parts})


def _values(document: Document, entry: DeviceEntry, kind: type[Driver]) -> dict[str, Any]:
    fields = _fields(kind)
    path = (*entry.path, "config")
    mistakes, values = Mistakes(), {}
    for key, value in entry.config.items():
        with mistakes.collected():
            if key not in fields:
                raise document.error((*path, key), f"{entry.type} has no key {key!r}; {nearest(key, fields)}")
            values[key] = check_value(document, value, fields[key][0], (*path, key))
    for key, (_, required) in fields.items():
        if required and key not in entry.config:
            where = path if entry.config else entry.path
            mistakes.add(document.error(where, f"{entry.type} needs the key {key!r} in `config`; add it"))
    mistakes.check()
    return values


def _fields(kind: type[Driver]) -> dict[str, tuple[Any, bool]]:
    """The keys that a driver accepts: their types, and whether they are required."""
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


def _extra_labels(made: Driver) -> dict[str, str]:
    try:
        with isolated("extra_labels()"):
            return dict(made.extra_labels())
    except Exception as error:  # any driver's code; a session's report shows the error
        _log.debug("the labels of a device are not known yet: %s", error)
    return {}


@contextmanager
def _faults(document: Document, entry: DeviceEntry, what: str) -> Iterator[None]:
    """Add the position in the file to whatever a driver's own code raises about its configuration."""
    where = entry.path
    if entry.ref is not None:
        where = (*where, "ref")
    elif entry.type is not None and entry.config:
        where = (*where, "config")
    try:
        with isolated(f"{entry.type}.{what}"):
            yield
    except ValueError as error:
        raise document.error(where, str(error)) from None
    except Exception as error:  # any driver's own code; its neighbours must be served
        raise document.error(where, f"{entry.type} cannot be made: {error}; see its driver's code") from error


def _path_of(entries: dict[str, DeviceEntry], dotted: str) -> PathInFile:
    """The position of a device's path in the file, as far as it exists."""
    path: PathInFile = ("export",)
    for name in dotted.split("."):
        entry = entries.get(name)
        if entry is None:
            break
        path, entries = entry.path, entry.children
    return path
