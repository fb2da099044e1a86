"""Replaces `${name}` in tests. `$${` stands for `${`; a single `$` has no meaning."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["UnknownVariableError", "names", "substitute"]

_REFERENCE = re.compile(r"\$(\$\{)|\$\{\s*([A-Za-z_][\w-]*)\s*\}")


class UnknownVariableError(ValueError):
    """A reference to a variable that is not set."""

    def __init__(self, name: str, known: Mapping[str, object]) -> None:
        there = f"there are {', '.join(sorted(known))}" if known else "none is set"
        super().__init__(f"the variable {name!r} is not set; {there}")
        self.name = name


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
        return _look_up(whole[2], variables)
    return _REFERENCE.sub(lambda found: found[1] or str(_look_up(found[2], variables)), text)


def _look_up(name: str, variables: Mapping[str, Any]) -> Any:
    if name not in variables:
        raise UnknownVariableError(name, variables)
    return variables[name]
