"""Durations: as users write them on command lines and in YAML, and as Go and Kubernetes write them."""

from __future__ import annotations

import re

from jumpstarter_proto.errors import ExitCode, JumpstarterError

__all__ = ["DECIMAL_PATTERN", "TimeFormatError", "decimal_seconds", "go_seconds", "seconds"]

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_ISO = re.compile(r"P(?:([0-9]+)D)?(?:T(?:([0-9]+)H)?(?:([0-9]+)M)?(?:([0-9]+)S)?)?", re.IGNORECASE)
MAX_LENGTH = 40
"""In characters; a longer text is not a duration."""


class TimeFormatError(JumpstarterError):
    """A text is not a duration, or no time."""

    status = "INVALID_ARGUMENT"
    exit_code = ExitCode.USAGE


def seconds(text: str) -> float:
    """`90`, `30m`, `1h30m`, `1d`, `01:30:00` or ISO 8601's `PT1H30M` in seconds.

    Raises:
        TimeFormatError: it is none of them, or zero.
    """
    text = text.strip()
    if len(text) > MAX_LENGTH:
        found = 0
    elif re.fullmatch(r"[0-9]+", text):
        found = int(text)
    elif re.fullmatch(r"([0-9]+[dhms])+", text):
        found = sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([dhms])", text))
    elif match := re.fullmatch(r"([0-9]+):([0-5][0-9]):([0-5][0-9])", text):
        hours, minutes, rest = map(int, match.groups())
        found = hours * 3600 + minutes * 60 + rest
    elif match := _ISO.fullmatch(text):
        found = sum(int(part or 0) * unit for part, unit in zip(match.groups(), _UNITS.values(), strict=True))
    else:
        found = 0
    if not found:
        raise TimeFormatError(
            f"{text!r} is not a duration; write for example 30m, 1h30m, 90 (seconds) or 01:30:00"
        )
    return float(found)


_GO_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_GO_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ms|us|µs|ns|h|m|s)")


def go_seconds(text: str) -> float:
    """`1h30m0s` or `1.5h`, as Go and Kubernetes write durations, in seconds.

    Raises:
        TimeFormatError: it is none, or zero.
    """
    if len(text) > MAX_LENGTH or not re.fullmatch(f"(?:{_GO_PART.pattern})+", text):
        raise TimeFormatError(f"{text[:MAX_LENGTH]!r} is not a duration; write for example 1h30m or 90s")
    found = sum(float(number) * _GO_UNITS[unit] for number, unit in _GO_PART.findall(text))
    if not found:
        raise TimeFormatError(f"{text!r} is zero; write for example 1h30m, or leave it out")
    return found


DECIMAL_PATTERN = r"^\d+(\.\d+)?\s*(ms|s|m|h)?$"
"""What `decimal_seconds` accepts as text, for JSON Schema."""
_DECIMAL_UNITS = {"ms": 0.001, "": 1.0, **{unit: float(_UNITS[unit]) for unit in "smh"}}


def decimal_seconds(value: float | str) -> float:
    """Return seconds from a number, or from a text such as `90`, `1.5s`, `2m`, `500ms` or `1h`; zero is allowed.

    Raises:
        ValueError: the value is not a duration, or is negative.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    if isinstance(value, str) and (found := re.match(r"^(\d+(?:\.\d+)?)\s*(ms|s|m|h|)$", value.strip())):
        return float(found[1]) * _DECIMAL_UNITS[found[2]]
    raise ValueError(f"{value!r} is not a duration; write seconds, or 500ms, 90s, 2m, 1h")
