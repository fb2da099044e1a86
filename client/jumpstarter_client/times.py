"""Parses and formats durations and times for users."""

from __future__ import annotations

from datetime import UTC, datetime

from jumpstarter_proto.durations import TimeFormatError, parse_duration

__all__ = ["TimeFormatError", "format_duration", "format_time", "parse_duration", "parse_time", "rfc3339"]

LAST_DAY = 253_402_214_400.0
"""9999-12-31, in seconds since the epoch: the last day that `datetime` supports in every time zone."""


def parse_time(text: str) -> datetime:
    """Parse a time in ISO 8601; without a time zone it is local time. TimeFormatError if it is invalid."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise TimeFormatError(
            f"invalid time {text!r}; write for example 2027-01-31T08:00 or 2027-01-31T08:00+01:00"
        ) from None


def format_duration(duration: float) -> str:
    """Format seconds as `45s`, `12m`, `1h30m` or `2d3h`: the two largest units, and no seconds from one minute on."""
    whole = max(0, round(duration))
    if whole < 60:
        return f"{whole}s"
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes = rest // 60
    parts = [(days, "d"), (hours, "h"), (minutes, "m")]
    kept = [f"{number}{unit}" for number, unit in parts if number][:2]
    return "".join(kept)


def format_time(timestamp: float) -> str:
    """Format seconds since the epoch in local time. Times after the year 9999 are shown as its last day."""
    # Through UTC, because a conversion from naive local time fails near the year 10000.
    return datetime.fromtimestamp(min(timestamp, LAST_DAY), UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def rfc3339(timestamp: float) -> str:
    """Format seconds since the epoch in UTC, for scripts. Times after the year 9999 are shown as its last day."""
    return datetime.fromtimestamp(min(timestamp, LAST_DAY), UTC).isoformat(timespec="seconds")
