"""Replaces `${name}` in tests. `$${` stands for `${`; a single `$` has no meaning.

`${name.key}` is a part of a variable that is a mapping or a list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

__all__ = [
    "NAME_HINT",
    "InvalidReferenceError",
    "UnknownVariableError",
    "as_text",
    "check_references",
    "is_name",
    "names",
    "plain",
    "substitute",
]

_REFERENCE = re.compile(r"\$(\$\{)|\$\{\s*([A-Za-z_][\w-]*)((?:\.[\w-]+)*)\s*\}")
NAME_HINT = "use a letter or _, then letters, digits, _ and -"
_NAME = re.compile(r"[A-Za-z_][\w-]*")
_BEGIN = re.compile(r"\$\{([^}]*)(\}?)")
_WORDS = re.compile(r"[\w\s.-]*")
"""What is no expression of a shell, such as `${x:-1}` or `${1-a}`, which stay as they are."""


class InvalidReferenceError(ValueError):
    """A reference to a variable that is not written in full."""


class UnknownVariableError(ValueError):
    """A reference to a variable that is not set, or to a part that it does not have."""

    @classmethod
    def of(cls, name: str, known: Mapping[str, object]) -> UnknownVariableError:
        """Return the error for a variable that is not one of the known ones."""
        there = f"there are {', '.join(sorted(known))}" if known else "none is set"
        return cls(f"the variable {name!r} is not set; {there}")


def substitute(value: Any, variables: Mapping[str, Any]) -> Any:
    """Replace the references in a value, also in lists and mappings.

    A text that is only one reference becomes the value of the variable with its type.

    Raises:
        UnknownVariableError: a variable is not set.
    """
    if isinstance(value, str):
        return _text(value, variables)
    if isinstance(value, list):
        return [substitute(item, variables) for item in value]
    if isinstance(value, dict):
        return {key: substitute(item, variables) for key, item in value.items()}
    return value


def is_name(text: object) -> bool:
    """Whether a variable may have this name, so that a reference can be written to it."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def check_references(value: Any) -> None:
    """Raise InvalidReferenceError if a text begins a reference and does not end it, or has no name in it."""
    if isinstance(value, str):
        for found in _BEGIN.finditer(_REFERENCE.sub("\0", value)):  # which joins nothing
            inside, end = found.groups()
            if not end or (_WORDS.fullmatch(inside) and not inside[:1].isdigit()):
                raise InvalidReferenceError(
                    f"{found[0]} is not a reference to a variable; write ${{name}}, or $${{ for ${{ itself"
                )
    elif isinstance(value, list):
        for item in value:
            check_references(item)
    elif isinstance(value, dict):
        for item in value.values():
            check_references(item)


def names(value: Any) -> Iterator[str]:
    """Yield the variables that a value refers to."""
    if isinstance(value, str):
        yield from (found[2] for found in _REFERENCE.finditer(value) if found[2])
    elif isinstance(value, list):
        for item in value:
            yield from names(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from names(item)


def _text(text: str, variables: Mapping[str, Any]) -> Any:
    whole = _REFERENCE.fullmatch(text)
    if whole and whole[2]:
        return _look_up(whole[2], whole[3], variables)
    return _REFERENCE.sub(lambda found: found[1] or as_text(_look_up(found[2], found[3], variables)), text)


def _look_up(name: str, keys: str, variables: Mapping[str, Any]) -> Any:
    if name not in variables:
        raise UnknownVariableError.of(name, variables)
    found = variables[name]
    for key in keys.split(".")[1:]:
        parts = plain(found)
        if isinstance(parts, list):
            parts = {str(index): part for index, part in enumerate(parts)}
        if not isinstance(parts, dict):
            raise UnknownVariableError(
                f"the variable {name!r} has no part {keys[1:]!r}: {as_text(found)} has no parts"
            )
        if key not in parts:
            there = f"there are {', '.join(sorted(parts))}" if parts else "it is empty"
            raise UnknownVariableError(f"the variable {name!r} has no part {keys[1:]!r}; {there}")
        found = parts[key]
    return found


def plain(value: Any) -> Any:
    """Convert a value, such as the result of a step, to the types of YAML; an unknown type becomes its text."""
    found = msgspec.to_builtins(value, str_keys=True, enc_hook=str)
    return _with_integers(found)


def _with_integers(value: Any) -> Any:
    """Numbers that came over the wire are floating-point numbers."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list | tuple):
        return [_with_integers(item) for item in value]
    if isinstance(value, dict):
        return {key: _with_integers(item) for key, item in value.items()}
    return value


def as_text(value: Any) -> str:
    """Return a value as it would be written in a test: texts as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False, sort_keys=True)
