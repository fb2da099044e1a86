"""Times and durations as Kubernetes' objects have them: RFC 3339, and Go's durations. Exact to the nanosecond."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from jumpstarter_proto.durations import TimeFormatError, parse_go_duration

__all__ = ["duration_text", "read_duration", "read_time", "time_text"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_MAX_SHOWN_LENGTH = 40


def time_text(seconds: float) -> str:
    """Seconds since the epoch, such as `2026-11-28T08:00:16.25Z`."""
    whole, fraction = _parts(seconds)
    return f"{(_EPOCH + timedelta(seconds=whole)).strftime('%Y-%m-%dT%H:%M:%S')}{fraction}Z"


def read_time(text: str) -> float:
    """The same in seconds since the epoch. ValueError: it is no time."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:_MAX_SHOWN_LENGTH]!r} is not a time")
    day, hour, fraction, zone = match.groups()
    zone = "+00:00" if zone in "Zz" else zone
    whole = (datetime.fromisoformat(f"{day}T{hour}{zone}") - _EPOCH) // timedelta(seconds=1)
    return float(f"{whole}{fraction}") if fraction and whole >= 0 else whole + float(fraction or 0)


def duration_text(seconds: float) -> str:
    """Such as `1h30m0s`, as Go writes it; a part of a second is `90.5s`."""
    whole, fraction = _parts(seconds)
    if fraction:
        return f"{whole}{fraction}s"
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{left}s"


def read_duration(text: str) -> float:
    """The same in seconds. ValueError: it is none, or none that is longer than nothing."""
    try:
        return parse_go_duration(text)
    except TimeFormatError as error:
        raise ValueError(str(error)) from None


def _parts(seconds: float) -> tuple[int, str]:
    """Whole seconds, and the rest as a decimal fraction with its point, if there is any."""
    whole, fraction = f"{seconds:.9f}".split(".")
    if seconds < 0:
        return -_parts(-seconds)[0], ""
    return int(whole), f".{fraction.rstrip('0')}" if fraction.strip("0") else ""
