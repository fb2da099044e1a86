"""Durations: as users write them on command lines and in YAML, and as Go and Kubernetes write them."""

from __future__ import annotations

import contextlib
import re

from jumpstarter_proto.errors import ExitCode, JumpstarterError

__all__ = ["DURATION_PATTERN", "TimeFormatError", "parse_duration", "parse_go_duration"]

MAX_LENGTH = 40
"""In characters; a longer text is not a duration."""
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_PARTS = rf"(?:{_NUMBER}\s*(?:ms|[dhms])\s*)+"
_CLOCK = r"[0-9]+:[0-5][0-9]:[0-5][0-9]"
_ISO = r"[Pp](?=.*[0-9])(?:[0-9]+[Dd])?(?:[Tt](?:[0-9]+[Hh])?(?:[0-9]+[Mm])?(?:[0-9]+[Ss])?)?"
DURATION_PATTERN = rf"^\s*(?:{_NUMBER}|{_PARTS}|{_CLOCK}|{_ISO})\s*$"
"""The texts that `parse_duration` accepts, for JSON Schema."""
_DURATION = re.compile(DURATION_PATTERN, re.ASCII)


class TimeFormatError(JumpstarterError):
    """A text is not a duration, or no time."""

    status = "INVALID_ARGUMENT"
    exit_code = ExitCode.USAGE


def parse_duration(value: float | str, *, allow_zero: bool = False) -> float:
    """Return the seconds of a duration that a user wrote.

    Args:
        value: A number of seconds, or a text: `90`, `30m`, `1h30m`, `1.5h`, `500ms`, `1d`, `01:30:00`, or `PT1H30M` as
            in ISO 8601.
        allow_zero: Whether zero is a duration.

    Raises:
        TimeFormatError: the value is not a duration, or is negative.
    """
    found = -1.0
    if isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            found = float(value)
    elif isinstance(value, str) and len(value) <= MAX_LENGTH and _DURATION.match(value):
        found = _text_seconds(value.strip().lower())
    if not found > 0 and not (allow_zero and found == 0):
        raise TimeFormatError(
            f"{str(value)[:MAX_LENGTH]!r} is not a duration; "
            "write for example 30m, 1h30m, 500ms, 90 (seconds) or 01:30:00"
        )
    return found


def _text_seconds(text: str) -> float:
    if re.fullmatch(_NUMBER, text):
        return float(text)
    if ":" in text:
        hours, minutes, rest = map(int, text.split(":"))
        return float(hours * 3600 + minutes * 60 + rest)
    parts = re.findall(rf"({_NUMBER})\s*(ms|[dhms])", text)
    return sum((float(number) * _UNITS[unit] for number, unit in parts), 0.0)


_GO_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_GO_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ms|us|µs|ns|h|m|s)")


def parse_go_duration(text: str) -> float:
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
