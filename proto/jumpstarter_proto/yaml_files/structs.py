"""Whole sections of a document as structs: their fields are the keys that there may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

from jumpstarter_proto.yaml_files.document import Document
from jumpstarter_proto.yaml_files.errors import FieldError, Mistakes, PathInFile
from jumpstarter_proto.yaml_files.values import check_keys, check_value, kind_of

if TYPE_CHECKING:
    import msgspec

__all__ = ["read_struct"]

S = TypeVar("S", bound="msgspec.Struct")


def read_struct(document: Document, kind: type[S], data: object, path: PathInFile = ()) -> S:
    """Read a mapping strictly into a struct whose fields may be structs, or lists of them.

    An inner section with nothing below it counts as left out.

    Raises:
        ConfigError: an unknown key, one that is missing, a value of another type, or one that the struct refuses
            by a FieldError or another ValueError; at its place. SeveralMistakesError for several.
    """
    import msgspec  # noqa: PLC0415 - many readers of YAML files have no structs

    if not isinstance(data, Mapping):
        raise document.error(path, f"this is {kind_of(data)}; it takes keys with values")
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    mistakes, values = Mistakes(), dict[str, Any]()
    with mistakes.collected():
        check_keys(document, data, fields, path)
    for key, field in fields.items():
        with mistakes.collected():
            if data.get(key) is not None or (key in data and _struct_in(field.type)[0] is None):
                values[field.name] = _field_value(document, field.type, data[key], (*path, key))
            elif field.required:
                raise document.error(path, f"{key!r} is missing; add it")
    mistakes.check()
    try:
        return kind(**values)
    except ValueError as error:  # what its own __post_init__ finds
        below = error.path if isinstance(error, FieldError) else ()
        raise document.error((*path, *below), str(error)) from None


def _field_value(document: Document, hint: Any, value: object, path: PathInFile) -> Any:
    inner, many = _struct_in(hint)
    if inner is None:
        return check_value(document, value, hint, path)
    if not many:
        return read_struct(document, inner, value, path)
    if not isinstance(value, list):
        raise document.error(path, f"this is {kind_of(value)}; it takes a list")
    mistakes, items = Mistakes(), []
    for index, item in enumerate(value):
        with mistakes.collected():
            items.append(read_struct(document, inner, item, (*path, index)))
    mistakes.check()
    return tuple(items)


def _struct_in(hint: Any) -> tuple[type[msgspec.Struct] | None, bool]:
    """The struct that a type is or may be, or that `tuple[Struct, ...]` is of; and whether it is the latter."""
    import msgspec  # noqa: PLC0415

    for part in (hint, *get_args(hint)):
        if isinstance(part, type) and issubclass(part, msgspec.Struct):
            return part, get_origin(hint) is tuple
    return None, False
