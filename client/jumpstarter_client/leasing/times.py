"""Durations and moments, as users write them and as they read them."""

from __future__ import annotations

import re
from datetime import datetime

from jumpstarter_proto.errors import ExitCode, JumpstarterError

__all__ = ["TimeFormatError", "moment", "seconds", "spell", "when"]


class TimeFormatError(JumpstarterError):
    """A text is no duration, or no time."""

    status = "INVALID_ARGUMENT"
    exit_code = ExitCode.USAGE


_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_ISO = re.compile(r"P(?:([0-9]+)D)?(?:T(?:([0-9]+)H)?(?:([0-9]+)M)?(?:([0-9]+)S)?)?", re.IGNORECASE)


def seconds(text: str) -> float:
    """`90`, `30m`, `1h30m`, `1d`, `01:30:00` or ISO 8601's `PT1H30M` in seconds. TimeFormatError if it is none."""
    text = text.strip()
    if re.fullmatch(r"[0-9]+", text):
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
            f"{text!r} is no duration; write for example 30m, 1h30m, 90 (seconds) or 01:30:00"
        )
    return float(found)


def moment(text: str) -> datetime:
    """A time in ISO 8601, of this machine's time zone if it names none. TimeFormatError if it is none."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise TimeFormatError(
            f"{text!r} is no time; write for example 2027-01-31T08:00 or 2027-01-31T08:00+01:00"
        ) from None


def spell(duration: float) -> str:
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
    """A moment in the local time zone, to the second."""
    return datetime.fromtimestamp(timestamp).astimezone().strftime("%Y-%m-%d %H:%M:%S")
