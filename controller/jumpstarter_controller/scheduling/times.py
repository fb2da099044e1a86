"""Validates the begin time, end time and duration of a lease request."""

from __future__ import annotations

__all__ = ["MAX_DURATION_SECONDS", "TimesError", "check_times"]

MAX_DURATION_SECONDS = 10 * 365 * 86400.0
"""A longer lease is a mistake. The limit keeps later arithmetic in range."""


class TimesError(ValueError):
    """The times of a lease are invalid."""


def check_times(
    begin: float | None, end: float | None, duration: float | None, now: float
) -> tuple[float | None, float | None, float]:
    """Begin, end and duration of a lease in seconds; a missing begin or duration is computed from the others.

    Raises:
        TimesError: one of them is missing, out of range or contradicts the others.
    """
    for word, time in (("begin_time", begin), ("end_time", end)):
        if time is not None and not now - MAX_DURATION_SECONDS < time < now + MAX_DURATION_SECONDS:
            raise TimesError(
                f"{word} is more than {MAX_DURATION_SECONDS / 86400:.0f} days away; check its year"
            )
    if begin is not None and end is not None:
        between = end - begin
        if duration is not None and abs(duration - between) > 0.001:
            raise TimesError("duration conflicts with begin_time and end_time; leave one of them out")
        duration = between
    if duration is None:
        raise TimesError("duration is required (or begin_time and end_time); for example 30 minutes")
    if not duration > 0:
        raise TimesError(f"duration must be positive, got {duration:g} s")
    if duration > MAX_DURATION_SECONDS:
        raise TimesError(
            f"duration must be at most {MAX_DURATION_SECONDS / 86400:.0f} days, got {duration / 86400:.0f}"
        )
    if end is not None and begin is None:
        begin = end - duration
    return begin, end, duration
