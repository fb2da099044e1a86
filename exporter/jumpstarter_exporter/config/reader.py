"""Reads a configuration file into its model, strictly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from jumpstarter_proto.documents import Document, PathInFile, check_keys, check_value, kind_of, nearest

from jumpstarter_exporter.config.model import (
    Entry,
    ExporterConfig,
    FailureDetection,
    Hook,
    Hooks,
    Metadata,
    Tls,
    TopLevel,
)

__all__ = ["load"]

S = TypeVar("S", bound=msgspec.Struct)

_STRUCTS = (TopLevel, Metadata, Tls, Hooks, Hook, FailureDetection)

_TYPE_KEYS = frozenset({"type", "config", "children", "description", "methods_description"})
_GROUP_KEYS = frozenset({"children", "description", "methods_description"})
_REF_KEYS = frozenset({"ref"})


def load(file: Path | str) -> ExporterConfig:
    """Read and check a file; its devices' types and their `config` are for `build`.

    Raises:
        ConfigError: see there.
    """
    document = Document(Path(file), "export")
    settings = _struct(document, TopLevel, document.data, ())
    entries = _entries(document, settings.export, ("export",))
    return ExporterConfig(document.file, settings, entries, document)


def _struct(document: Document, kind: type[S], data: object, path: PathInFile) -> S:
    if not isinstance(data, Mapping):
        raise document.error(path, f"this is {kind_of(data)}; it takes keys with values")
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    check_keys(document, data, fields, path)
    values: dict[str, Any] = {}
    for key, field in fields.items():
        where = (*path, key)
        if key not in data:
            if field.required:
                raise document.error(path, f"{key!r} is missing; add it")
            continue
        value = data[key]
        inner = next((struct for struct in _STRUCTS if field.type in (struct, struct | None)), None)
        if value is None and (inner is not None or key == "export"):
            continue  # `hooks:` with nothing below it
        values[field.name] = (
            _struct(document, inner, value, where)
            if inner
            else check_value(document, value, field.type, where)
        )
    return kind(**values)


def _entries(document: Document, data: object, path: PathInFile) -> dict[str, Entry]:
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise document.error(path, f"this is {kind_of(data)}; it takes names, with a device below each")
    for name in data:
        if not isinstance(name, str):
            raise document.error((*path, name), f"{name!r} is no name for a device; put it in quotes")
    return {name: _entry(document, value, (*path, name)) for name, value in data.items()}


def _entry(document: Document, data: object, path: PathInFile) -> Entry:
    if not isinstance(data, Mapping):
        raise document.error(path, f"this is {kind_of(data)}; a device takes `type:`, `children:` or `ref:`")
    if "ref" in data:
        check_keys(document, data, _REF_KEYS, path, "beside `ref`")
        ref: str = check_value(document, data["ref"], str, (*path, "ref"))
        return Entry(path, ref=ref)
    if "type" not in data and "children" not in data:
        known = _TYPE_KEYS | _REF_KEYS
        for key in data:
            if key not in known:
                raise document.error((*path, key), f"unknown key {key!r}; {nearest(key, known)}")
        raise document.error(path, "`type` is missing; a device takes `type:`, `children:` or `ref:`")
    keys = _TYPE_KEYS if "type" in data else _GROUP_KEYS
    check_keys(document, data, keys, path, "" if "type" in data else "of a group")
    return Entry(
        path,
        type=check_value(document, data["type"], str, (*path, "type")) if "type" in data else None,
        config=check_value(document, data.get("config") or {}, dict[str, Any], (*path, "config")),
        description=check_value(document, data.get("description"), str | None, (*path, "description")),
        methods_description=check_value(
            document, data.get("methods_description") or {}, dict[str, str], (*path, "methods_description")
        ),
        children=_entries(document, data.get("children"), (*path, "children")),
    )
