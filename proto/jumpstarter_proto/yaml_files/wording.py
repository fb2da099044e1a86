"""What msgspec says about a value that does not fit, in the words of people who write YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["UNKNOWN_VALUE", "reworded"]

UNKNOWN_VALUE = object()
"""In place of a value that is not to be repeated, or was not found."""
MAX_SHOWN = 40

_EXPECTED = re.compile(r"Expected `(?P<kinds>[^`]+)`(?P<rest>.*)", re.DOTALL)
_BOUND = re.compile(r" (?P<relation>>=|<=|>|<) (?P<bound>\S+)$")
_LENGTH = re.compile(r" of length (?:(?P<relation>>=|<=) )?(?P<bound>\d+)")
_PATTERN = re.compile(r" matching regex (?P<pattern>.+)$", re.DOTALL)

_KINDS: Mapping[str, str] = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "keys with values",
    "null": "nothing",
}
_RELATIONS: Mapping[str | None, str] = {
    ">=": "at least ",
    "<=": "at most ",
    ">": "more than ",
    "<": "less than ",
    None: "",
}


def reworded(what: str, value: object) -> str:
    """Say what a value is, what its place takes, and for a text that YAML reads as something else, the quotes.

    Args:
        what: msgspec's sentence without its path.
        value: what stands there, or UNKNOWN_VALUE.
    """
    if not (match := _EXPECTED.match(what)):
        return f"{what}; change the value"
    kinds, rest = match["kinds"].split(" | "), match["rest"]
    known = value is not UNKNOWN_VALUE
    is_other_kind = ", got " in rest and not rest.startswith(" of length")
    if is_other_kind and "str" in kinds and (not known or isinstance(value, bool | int | float)):
        if not known:
            return "it takes text; put it in quotes"
        return f"YAML reads this as {_shown(value)}; to make it text, put it in quotes"
    takes = f"it takes {_taken(kinds, rest)}"
    return f"this is {_shown(value)}; {takes}" if known else takes


def _taken(kinds: list[str], rest: str) -> str:
    words = " or ".join(_KINDS.get(kind, kind) for kind in kinds if kind != "null" or len(kinds) == 1)
    if bound := _BOUND.match(rest):
        return f"{words}, {_RELATIONS[bound['relation']]}{bound['bound']}"
    if length := _LENGTH.match(rest):
        unit = "items" if "array" in kinds else "characters"
        unit = unit if length["bound"] != "1" else unit[:-1]
        return f"{words} of {_RELATIONS[length['relation']]}{length['bound']} {unit}"
    if pattern := _PATTERN.match(rest):
        return f"{words} that matches {pattern['pattern']}"
    return words


def _shown(value: object) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    shown = repr(value)
    return shown if len(shown) <= MAX_SHOWN else shown[: MAX_SHOWN - 3] + "..."
