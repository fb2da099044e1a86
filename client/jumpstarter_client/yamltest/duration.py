"""Seconds as people write them: 90, 1.5s, 2m, 500ms, 1h."""

from __future__ import annotations

import re

__all__ = ["PATTERN", "parse_duration"]

PATTERN = r"^\d+(\.\d+)?\s*(ms|s|m|h)?$"
_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(value: float | str) -> float:
    """Seconds.

    Raises:
        ValueError: it is no duration, or a negative one.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    if isinstance(value, str) and (found := re.match(r"^(\d+(?:\.\d+)?)\s*(ms|s|m|h|)$", value.strip())):
        return float(found[1]) * _UNITS[found[2]]
    raise ValueError(f"{value!r} is no duration; write seconds, or 500ms, 90s, 2m, 1h")
