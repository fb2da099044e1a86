"""Reads a configuration file into its model, strictly."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from jumpstarter_exporter.arguments import convert
from jumpstarter_exporter.config.document import Document
from jumpstarter_exporter.config.errors import PathInFile, nearest
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

__all__ = ["check_value", "load"]

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
    document = Document(Path(file))
    settings = _struct(document, TopLevel, document.data, ())
    entries = _entries(document, settings.export, ("export",))
    return ExporterConfig(document.file, settings, entries, document)


def check_value(document: Document, value: object, hint: Any, path: PathInFile) -> Any:
    """Convert one value to a type. ConfigError, at the part that does not fit."""
    try:
        return convert(value, hint)
    except ValueError as error:
        what, _, where = str(error).partition(" - at `$")
        parts = [int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]`]+", where)]
        # Where a key is at fault msgspec says `[...]`, for which there is no better place than the mapping.
        inner = tuple(part for part in parts if part != "...")
        raise document.error((*path, *inner), _worded(what, value, hint, inner)) from None


def _worded(what: str, value: object, hint: Any, inner: PathInFile) -> str:
    if inner:
        return f"{what}; change the value"
    shown = repr(value)
    shown = shown if len(shown) <= 40 else shown[:37] + "..."
    if isinstance(value, str) and (choices := list(_choices(hint))):
        return f"this is {shown}; {nearest(value, choices)}"
    return f"{what}, and this is {shown}; change the value"


def _choices(hint: Any) -> Iterator[str]:
    if get_origin(hint) is Literal:
        yield from (choice for choice in get_args(hint) if isinstance(choice, str))
    else:
        for part in get_args(hint):
            yield from _choices(part)


def _struct(document: Document, kind: type[S], data: object, path: PathInFile) -> S:
    if not isinstance(data, Mapping):
        raise document.error(path, f"this is {_kind(data)}; it takes keys with values")
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    _check_keys(document, data, fields, path)
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
        raise document.error(path, f"this is {_kind(data)}; it takes names, with a device below each")
    for name in data:
        if not isinstance(name, str):
            raise document.error((*path, name), f"{name!r} is no name for a device; put it in quotes")
    return {name: _entry(document, value, (*path, name)) for name, value in data.items()}


def _entry(document: Document, data: object, path: PathInFile) -> Entry:
    if not isinstance(data, Mapping):
        raise document.error(path, f"this is {_kind(data)}; a device takes `type:`, `children:` or `ref:`")
    if "ref" in data:
        _check_keys(document, data, _REF_KEYS, path, "beside `ref`")
        ref: str = check_value(document, data["ref"], str, (*path, "ref"))
        return Entry(path, ref=ref)
    if "type" not in data and "children" not in data:
        known = _TYPE_KEYS | _REF_KEYS
        for key in data:
            if key not in known:
                raise document.error((*path, key), f"unknown key {key!r}; {nearest(key, known)}")
        raise document.error(path, "`type` is missing; a device takes `type:`, `children:` or `ref:`")
    keys = _TYPE_KEYS if "type" in data else _GROUP_KEYS
    _check_keys(document, data, keys, path, "" if "type" in data else "of a group")
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


def _check_keys(
    document: Document,
    data: Mapping[str, Any],
    known: Mapping[str, Any] | frozenset[str],
    path: PathInFile,
    where: str = "",
) -> None:
    for key in data:
        if key not in known:
            what = f"unknown key {key!r}" + (f" {where}" if where else "")
            raise document.error((*path, key), f"{what}; {nearest(key, known)}")


def _kind(data: object) -> str:
    if data is None:
        return "empty"
    return {dict: "a mapping", list: "a list", str: "text", bool: "yes or no"}.get(type(data), "a number")
