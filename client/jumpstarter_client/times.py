"""Durations and moments, as users write them and as they read them."""

from __future__ import annotations

from datetime import UTC, datetime

from jumpstarter_proto.durations import TimeFormatError, seconds

__all__ = ["TimeFormatError", "format_duration", "moment", "seconds", "when"]

LAST_DAY = 253_402_214_400.0
"""In seconds since the epoch: 9999-12-31, which is in the range of `datetime` in every time zone."""


def moment(text: str) -> datetime:
    """A time in ISO 8601, of this machine's time zone if it names none. TimeFormatError if it is none."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise TimeFormatError(
            f"{text!r} is no time; write for example 2027-01-31T08:00 or 2027-01-31T08:00+01:00"
        ) from None


def format_duration(duration: float) -> str:
    """`45s`, `12m`, `1h30m`, `2d3h`: its two largest units; no seconds from a minute on."""
    whole = max(0, round(duration))
    if whole < 60:
        return f"{whole}s"
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes = rest // 60
    parts = [(days, "d"), (hours, "h"), (minutes, "m")]
    kept = [f"{number}{unit}" for number, unit in parts if number][:2]
    return "".join(kept)


def when(timestamp: float) -> str:
    """A moment in the local time zone, to the second; the last day of the year 9999 for all that is later."""
    # By way of UTC: a local time without its zone is looked for a day around, which may be the year 10000.
    return datetime.fromtimestamp(min(timestamp, LAST_DAY), UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
