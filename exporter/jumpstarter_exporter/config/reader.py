"""Reads a configuration file into its model, strictly."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jumpstarter_proto.yaml_files import (
    ConfigError,
    Document,
    Mistakes,
    PathInFile,
    check_keys,
    check_names,
    check_value,
    kind_of,
    read_struct,
)

from jumpstarter_exporter.config.model import (
    DeviceEntry,
    Enrolment,
    ExporterConfig,
    TopLevel,
    check_command,
    relative_python,
)

__all__ = ["load", "read_parts"]

_log = logging.getLogger(__name__)

_TYPE_KEYS = frozenset(
    {"type", "config", "children", "description", "methods_description", "required", "python", "ownProcess"}
)
_VALUES = {
    "type": ("type", str),
    "config": ("config", dict[str, Any]),
    "description": ("description", str),
    "methods_description": ("methods_description", dict[str, str]),
    "required": ("required", bool),
    "python": ("python", str),
    "ownProcess": ("own_process", bool),
}
"""The fields of a device's values, and their types. One without a value counts as left out."""
_GROUP_KEYS = frozenset({"children", "description", "methods_description", "required"})
_REF_KEYS = frozenset({"ref"})


def load(file: Path | str, *, lenient: bool = False, raw: bytes | None = None) -> ExporterConfig:
    """Read and check a file, except for the types and the `config` of its devices (see `build`).

    `raw` is what is in it, if that was read already.
    If `lenient`, unknown keys are warnings, because Jumpstarter 0.9 accepts them.

    Raises:
        ConfigError: see there.
    """
    mistakes = Mistakes()
    document = Document(Path(file), "export", raw, mistakes=mistakes)
    ignored: list[ConfigError] = []

    def ignore(error: ConfigError) -> None:
        if str(error) not in map(str, ignored):
            ignored.append(error)
        _log.warning("%s (ignored)", error)

    if lenient:
        document.on_unknown_key = ignore
    config = read_parts(document, mistakes)
    mistakes.check(check_command(document.file))
    return replace(config, ignored=ignored)


def read_parts(document: Document, mistakes: Mistakes) -> ExporterConfig:
    """Read what can be read. A device that cannot be has a `fault`; of wrong settings, only `python` is kept."""
    python = document.data.get("python")
    settings = TopLevel(python=python if isinstance(python, str) and Path(python).is_absolute() else None)
    with mistakes.collected():
        settings = read_struct(document, TopLevel, document.data)
    exported = document.data.get("export")
    with mistakes.collected():
        check_names(document, exported, "device", ("export",))
    entries = _entries(document, exported, ("export",), mistakes)
    return ExporterConfig(document.file, settings, entries, document, _enrolment(document.file, settings))


def _enrolment(file: Path, settings: TopLevel) -> Enrolment | None:
    if not settings.endpoint or not settings.token:
        return None
    metadata = settings.metadata
    return Enrolment(
        settings.endpoint,
        metadata.namespace or "",
        metadata.name or "",
        settings.token,
        settings.tls,
        file,
    )


def _entries(
    document: Document, data: object, path: PathInFile, mistakes: Mistakes
) -> dict[str, DeviceEntry]:
    """Read the devices below a key, whose names the caller checks. One with mistakes has a `fault`, too."""
    entries: dict[str, DeviceEntry] = {}
    for name, value in data.items() if isinstance(data, Mapping) else ():
        if isinstance(name, str):
            entries[name] = entry = _entry(document, value, (*path, name), mistakes)
            if entry.fault is not None:
                mistakes.add(entry.fault)
    return entries


def _entry(document: Document, data: object, path: PathInFile, mistakes: Mistakes) -> DeviceEntry:
    """Read a device as far as it can be read; its own mistakes are its `fault`."""
    own = Mistakes()
    children: dict[str, DeviceEntry] = {}
    values: dict[str, Any] = {}
    if not isinstance(data, Mapping):
        sentence = f"this is {kind_of(data)}; a device needs `type:`, `children:` or `ref:`"
        own.add(document.error(path, sentence))
    elif "ref" in data:
        with own.collected():
            check_keys(document, data, _REF_KEYS, path, "beside `ref`")
        with own.collected():
            values["ref"] = check_value(document, data["ref"], str, (*path, "ref"))
    else:
        children, values = _parts(document, data, path, own, mistakes)
    fault: ConfigError | None = None
    try:
        own.check()
    except ConfigError as error:
        fault = error
    return DeviceEntry(path, children=children, fault=fault, **values)


def _parts(
    document: Document, data: Mapping[str, Any], path: PathInFile, own: Mistakes, mistakes: Mistakes
) -> tuple[dict[str, DeviceEntry], dict[str, Any]]:
    """Read the children and the values of a device with a type, or of a group."""
    values: dict[str, Any] = {}
    with own.collected():
        check_names(document, data.get("children"), "device", (*path, "children"))
    children = _entries(document, data.get("children"), (*path, "children"), mistakes)
    with own.collected():
        _check_entry_keys(document, data, path)
    values["is_partial"] = bool(own.errors)
    for key, (field, hint) in _VALUES.items():
        if data.get(key) is not None or (key == "type" and key in data):  # without one it would be a group
            with own.collected():
                values[field] = check_value(document, data[key], hint, (*path, key))
    if data.get("config") is not None and "config" not in values:
        values["is_partial"] = True
    python = values.get("python")
    if python is not None and not Path(python).is_absolute():
        own.add(document.error((*path, "python"), relative_python(python)))
    return children, values


def _check_entry_keys(document: Document, data: Mapping[str, Any], path: PathInFile) -> None:
    if "type" in data or "children" in data:
        keys = _TYPE_KEYS if "type" in data else _GROUP_KEYS
        check_keys(document, data, keys, path, "" if "type" in data else "of a group")
        return
    check_keys(document, data, _TYPE_KEYS | _REF_KEYS, path)  # one of them may be meant
    raise document.error(path, "`type` is missing; a device needs `type:`, `children:` or `ref:`")
