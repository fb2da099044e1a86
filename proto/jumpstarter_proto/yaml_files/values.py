"""Values of a document or of a call, converted to the types that their readers ask for."""

from __future__ import annotations

import inspect
import itertools
import math
import pathlib
import re
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from jumpstarter_proto.json_texts import JSON
from jumpstarter_proto.yaml_files.document import Document
from jumpstarter_proto.yaml_files.errors import Mistakes, PathInFile, nearest
from jumpstarter_proto.yaml_files.wording import UNKNOWN_VALUE, reworded

__all__ = ["check_keys", "check_names", "check_value", "convert", "explained", "kind_of", "usable"]

_SECRET = re.compile(r"password|passphrase|secret|token|community|authorization|(^|[_-])key$", re.IGNORECASE)
"""Keys whose values are not repeated in an error: YAML makes a number of 1234."""
_PLACE = re.compile(r" - at `key` in `\$")
_AS_IT_IS = frozenset({inspect.Parameter.empty, Any, object})


def convert(value: object, hint: Any) -> Any:
    """Convert a JSON or YAML value to a type.

    Raises:
        ValueError: it does not fit; says what was expected and, for a part of it, where.
    """
    hint = usable(hint)
    if hint is Any:
        return value
    if isinstance(value, float) and math.isnan(value):  # which no bound would keep out
        raise ValueError("Expected a number, got `nan`")
    import msgspec  # noqa: PLC0415 - many drivers take no arguments

    try:
        # Numbers of JSON have no kind; msgspec takes 5 for a float, but not 5.0 for an int.
        return msgspec.convert(_whole(value), hint, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def check_value(document: Document, value: object, hint: Any, path: PathInFile) -> Any:
    """Convert one value to a type. ConfigError, at the part that does not fit."""
    try:
        return convert(value, hint)
    except ValueError as error:
        sentence, inner = explained(str(error), value, hint, path[-1:])
        raise document.error((*path, *inner), sentence) from None


def explained(error: str, value: object, hint: Any, names: PathInFile) -> tuple[str, PathInFile]:
    """Say why `convert` refused a value, and at which part of it.

    `names` are the keys above the value: what is below the name of a secret is not repeated.
    """
    what, inner = _at_fault(error, value, hint)
    if inner and _PLACE.search(error):
        key = inner[-1] if error.endswith(" in `$`") else UNKNOWN_VALUE  # else further below
        return f"as a key, {reworded(what, key)}", inner
    if any(_SECRET.search(str(name)) for name in (*names, *inner)):
        return reworded(what, UNKNOWN_VALUE), inner
    return _worded(what, value, hint, inner), inner


def _at_fault(error: str, value: object, hint: Any) -> tuple[str, PathInFile]:
    """What msgspec says without its place, and the place below the value."""
    what, _, where = _PLACE.sub(r" - at `$[...]", error).partition(" - at `$")
    inner = tuple(int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]`]+|\.\.\.", where))
    if "..." not in inner:
        return what, inner
    # Where an item of a mapping is at fault, msgspec leaves out its key.
    if inner[0] == "..." and isinstance(value, Mapping):
        for key, item in value.items():
            try:
                convert({key: item}, hint)
            except ValueError:
                return what, (key, *itertools.takewhile(lambda part: part != "...", inner[1:]))
    return what, tuple(itertools.takewhile(lambda part: part != "...", inner))


def _worded(what: str, value: object, hint: Any, inner: PathInFile) -> str:
    if not inner and (choices := list(_choices(hint))):
        shown = repr(value)
        shown = shown if len(shown) <= 40 else shown[:37] + "..."
        if isinstance(value, str) or not _takes_more(hint):
            return f"this is {shown}; {nearest(value if isinstance(value, str) else '', choices)}"
        return f"{reworded(what, value)}; of words, {nearest('', choices)}"
    for part in inner:
        if isinstance(value, Mapping):
            value = value.get(part, UNKNOWN_VALUE)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            value = UNKNOWN_VALUE
    return reworded(what, value)


def _choices(hint: Any) -> Iterator[str]:
    if get_origin(hint) is Literal:
        yield from (choice for choice in get_args(hint) if isinstance(choice, str))
    else:
        for part in get_args(hint):
            yield from _choices(part)


def _takes_more(hint: Any) -> bool:
    """Whether there is something else than words that somebody would write: yes and no may be words, too."""
    if hint in (bool, type(None)) or get_origin(hint) is Literal:
        return False
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else ()
    return any(map(_takes_more, parts)) if parts else True


def check_keys(
    document: Document,
    data: Mapping[str, Any],
    known: Mapping[str, Any] | frozenset[str],
    path: PathInFile,
    where: str = "",
) -> None:
    """No other keys than these; `where` says beside what. See `Document.unknown_key`."""
    mistakes = Mistakes()
    for key in data:
        if key not in known:
            what = f"unknown key {key!r}" + (f" {where}" if where else "")
            with mistakes.collected():
                document.unknown_key((*path, key), f"{what}; {nearest(key, known)}")
    mistakes.check()


def check_names(document: Document, data: object, what: str, path: PathInFile) -> Mapping[str, Any]:
    """A mapping of names, each with a `what` below it; nothing there is an empty one. ConfigError if it is none."""
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise document.error(path, f"this is {kind_of(data)}; it takes names, with a {what} below each")
    mistakes = Mistakes()
    for name in data:
        if not isinstance(name, str):
            sentence = f"{name!r} is not a valid name for a {what}; put it in quotes"
            mistakes.add(document.error((*path, name), sentence))
    mistakes.check()
    return data


def kind_of(data: object) -> str:
    """Name the type of a YAML value, for error messages."""
    if data is None:
        return "empty"
    return {dict: "a mapping", list: "a list", str: "text", bool: "yes or no"}.get(type(data), "a number")


def _decode(wanted: type, value: object) -> object:
    if issubclass(wanted, pathlib.PurePath) and isinstance(value, str):
        return wanted(value)
    name = "str" if issubclass(wanted, pathlib.PurePath) else wanted.__name__
    raise ValueError(f"Expected `{name}`, got `{type(value).__name__}`")


def _whole(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    return value


def usable(hint: Any) -> Any:
    """The hint with its parts that take anything as Any: msgspec knows neither object nor recursive aliases."""
    if hint in _AS_IT_IS or hint == JSON:
        return Any
    if not _has_loose_part(hint):
        return hint
    origin: Any = get_origin(hint)
    if origin in (dict, list, tuple, set, frozenset):
        return origin[tuple(usable(argument) for argument in get_args(hint))]
    return Any


def _has_loose_part(hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return False
    # The recursive alias names itself by a string.
    loose = isinstance(hint, str) or hint is object or hint == JSON
    return loose or any(_has_loose_part(part) for part in get_args(hint))
