"""Values in what a device answers: by a path into JSON, or by a pattern in anything else. Without I/O.

A path has names and numbers of JSON with dots between them: `relays.0.ison`. `Outputs[ID=3].State` is the entry of a
list in which ID is 3. `a|b` takes what is there. A pattern begins with `~` and is a regular expression with one group,
which is found anywhere in the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from jumpstarter_proto.json_texts import parse_json

from jumpstarter_drivers.power.reading import PowerReading

__all__ = ["Measure", "find_measures", "find_number", "find_text", "find_value", "measures"]

_SEGMENT = re.compile(r"(?P<name>[^\[\]]*)(?:\[(?P<key>\w+)=(?P<value>[^\]]+)\])?")


@dataclass(frozen=True)
class Measure:
    """Where a measurement is, and what to multiply it by for volts, amperes, watts and watt-hours."""

    path: str
    factor: float = 1.0


def measures(**paths: str | tuple[str, float]) -> Mapping[str, Measure]:
    """Make measures from paths, or paths with factors, by the fields of `PowerReading`."""
    return {name: Measure(path) if isinstance(path, str) else Measure(*path) for name, path in paths.items()}


def find_measures(text: str, wanted: Mapping[str, Measure]) -> PowerReading | None:
    """Return the measurements in an answer; None if there are none."""
    found = {
        name: round(number * measure.factor, 6)
        for name, measure in wanted.items()
        if (number := find_number(text, measure.path)) is not None and isfinite(number * measure.factor)
    }
    if not found:
        return None
    return PowerReading(**found, measured=tuple(name for name in ("voltage", "current") if name in found))


def find_value(text: str, path: str) -> Any:
    """Return the value at a path of an answer: a text, a number, True or False; None if there is none."""
    if path.startswith("~"):
        found = re.search(path[1:], text, re.DOTALL)
        return found[1] if found else None
    try:
        data = parse_json(text)
    except ValueError:
        return None
    for one in path.split("|"):
        value = _walk(data, one)
        if value is not None:
            return value
    return None


def find_text(text: str, path: str) -> str | None:
    """Find a value as text in lower case: `true`, `on`, `1`."""
    value = find_value(text, path)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return None if value is None else str(value).strip().lower()


def find_number(text: str, path: str) -> float | None:
    """Find a value as a number; None if it is not one."""
    value = find_value(text, path)
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < float("inf") else None


def _walk(data: Any, path: str) -> Any:
    for segment in path.split(".") if path else ():
        match = _SEGMENT.fullmatch(segment)
        if match is None:
            return None
        if name := match["name"]:
            data = _entry(data, name)
        if match["key"] and isinstance(data, list):
            key, wanted = match["key"], match["value"]
            data = next((one for one in data if isinstance(one, dict) and str(one.get(key)) == wanted), None)
    return None if isinstance(data, dict | list) else data


def _entry(data: Any, name: str) -> Any:
    if isinstance(data, dict):
        return data.get(name)
    if isinstance(data, list) and name.isdigit() and int(name) < len(data):
        return data[int(name)]
    return None
