"""Reads a configuration file into its model, strictly."""

from __future__ import annotations

import logging
from collections.abc import Mapping
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
    nearest,
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

__all__ = ["load"]

_log = logging.getLogger(__name__)

_TYPE_KEYS = frozenset(
    {"type", "config", "children", "description", "methods_description", "required", "python", "ownProcess"}
)
_GROUP_KEYS = frozenset({"children", "description", "methods_description", "required"})
_REF_KEYS = frozenset({"ref"})


def load(file: Path | str, *, lenient: bool = False, raw: bytes | None = None) -> ExporterConfig:
    """Read and check a file, except for the types and the `config` of its devices (see `build`).

    `raw` is what is in it, if that was read already.
    If `lenient`, unknown keys are warnings, because Jumpstarter 0.9 accepts them.

    Raises:
        ConfigError: see there.
    """
    document = Document(Path(file), "export", raw)
    if lenient:
        document.on_unknown_key = _warn
    mistakes = Mistakes()
    with mistakes.collected():
        settings = read_struct(document, TopLevel, document.data)
    with mistakes.collected():
        entries = _entries(document, document.data.get("export"), ("export",))
    mistakes.check(check_command(document.file))
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


def _warn(error: ConfigError) -> None:
    _log.warning("%s (ignored)", error)


def _entries(document: Document, data: object, path: PathInFile) -> dict[str, DeviceEntry]:
    names = check_names(document, data, "device", path)
    mistakes, entries = Mistakes(), {}
    for name, value in names.items():
        with mistakes.collected():
            entries[name] = _entry(document, value, (*path, name))
    mistakes.check()
    return entries


def _entry(document: Document, data: object, path: PathInFile) -> DeviceEntry:
    if not isinstance(data, Mapping):
        raise document.error(path, f"this is {kind_of(data)}; a device needs `type:`, `children:` or `ref:`")
    if "ref" in data:
        check_keys(document, data, _REF_KEYS, path, "beside `ref`")
        ref: str = check_value(document, data["ref"], str, (*path, "ref"))
        return DeviceEntry(path, ref=ref)
    if "type" not in data and "children" not in data:
        known = _TYPE_KEYS | _REF_KEYS
        for key in data:
            if key not in known:
                raise document.error((*path, key), f"unknown key {key!r}; {nearest(key, known)}")
        raise document.error(path, "`type` is missing; a device needs `type:`, `children:` or `ref:`")
    python = check_value(document, data.get("python"), str | None, (*path, "python"))
    if python is not None and not Path(python).is_absolute():
        raise document.error((*path, "python"), relative_python(python))
    keys = _TYPE_KEYS if "type" in data else _GROUP_KEYS
    check_keys(document, data, keys, path, "" if "type" in data else "of a group")
    return DeviceEntry(
        path,
        type=check_value(document, data["type"], str, (*path, "type")) if "type" in data else None,
        config=check_value(document, data.get("config") or {}, dict[str, Any], (*path, "config")),
        description=check_value(document, data.get("description"), str | None, (*path, "description")),
        methods_description=check_value(
            document, data.get("methods_description") or {}, dict[str, str], (*path, "methods_description")
        ),
        required=check_value(document, data.get("required", False), bool, (*path, "required")),
        children=_entries(document, data.get("children"), (*path, "children")),
        python=python,
        own_process=check_value(document, data.get("ownProcess", False), bool, (*path, "ownProcess")),
    )
