"""A console's recording for the user: its pieces as lines, with times, chosen and shown. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

__all__ = ["ConsoleRecord", "Line", "Lines", "parse_since", "show"]

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
LONGEST = 64 * 1024
"""A line without an end is cut there."""


@dataclass(frozen=True)
class ConsoleRecord:
    """A piece of a recording."""

    time: float
    """Seconds since 1970, by the exporter's clock."""
    kind: str
    """`data`, `mark` (a bookmark), `gap` (something is missing) or `note` (the port came or went)."""
    data: bytes


@dataclass(frozen=True)
class Line:
    """A line of the console, or what the recording itself says."""

    time: float
    """When its first byte came."""
    kind: str
    data: bytes
    """With its line end, if it has come."""


class Lines:
    """Makes lines of pieces."""

    def __init__(self) -> None:
        self._begun = b""
        self._time = 0.0

    def feed(self, record: ConsoleRecord) -> Iterator[Line]:
        """The lines that this piece completes."""
        if record.kind != "data":
            yield from self.rest()
            yield Line(record.time, record.kind, record.data)
            return
        if not self._begun:
            self._time = record.time
        pieces = (self._begun + record.data).split(b"\n")
        for piece in pieces[:-1]:
            yield Line(self._time, "data", piece + b"\n")
            self._time = record.time
        self._begun = pieces[-1]
        if len(self._begun) > LONGEST:
            yield from self.rest()

    def rest(self) -> Iterator[Line]:
        """The line that has no end yet."""
        if self._begun:
            yield Line(self._time, "data", self._begun)
            self._begun = b""


def parse_since(text: str, now: datetime) -> float:
    """`10m` (ago; s, m, h, d) or a time such as 14:30 or 2026-11-24T14:30, as seconds since 1970.

    Raises:
        ValueError: it is neither.
    """
    if found := _AGO.fullmatch(text.strip()):
        return (now - timedelta(**{_UNITS[found[2]]: float(found[1])})).timestamp()
    try:
        if re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?", text.strip()):
            clock = datetime.strptime(text.strip(), "%H:%M:%S" if text.count(":") == 2 else "%H:%M")  # noqa: DTZ007
            then = now.replace(hour=clock.hour, minute=clock.minute, second=clock.second, microsecond=0)
            return (then if then <= now else then - timedelta(days=1)).timestamp()
        return datetime.fromisoformat(text.strip()).astimezone().timestamp()
    except ValueError:
        raise ValueError(f"{text!r} is no time; write 10m, 2h, 14:30 or 2026-11-24T14:30") from None


def show(line: Line, *, wanted: re.Pattern[str] | None, timestamps: bool, harmless: bool) -> bytes:
    """A line as it is printed; empty when `wanted` does not match. `harmless` leaves a terminal nothing to obey."""
    from jumpstarter_client.console.matcher import plain  # noqa: PLC0415 - raw output needs none of it

    if wanted is not None and not (line.kind == "data" and wanted.search(plain(line.data))):
        return b""
    text = line.data
    if line.kind != "data":
        text = b"[jumpstarter: " + (b"bookmark " if line.kind == "mark" else b"") + text + b"]\n"
    if harmless:
        text = plain(text).encode()
    if timestamps:
        when = datetime.fromtimestamp(line.time).astimezone()
        text = f"{when:%Y-%m-%d %H:%M:%S}.{when.microsecond // 1000:03d} ".encode() + text
    return text
