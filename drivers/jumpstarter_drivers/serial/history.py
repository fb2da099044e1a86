"""A console's recording for the user: its pieces as lines, with times, chosen and shown. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from jumpstarter_proto.console_lines import lines_of
from jumpstarter_proto.durations import TimeFormatError, parse_duration
from jumpstarter_proto.texts import printable

__all__ = ["ConsoleLine", "HistoryRecord", "Lines", "parse_since", "show"]


@dataclass(frozen=True)
class HistoryRecord:
    """A piece of a recording."""

    time: float
    """Seconds since 1970, by the exporter's clock."""
    kind: str
    """`data`, `mark` (a bookmark), `gap` (something is missing) or `note` (the port came or went)."""
    data: bytes


@dataclass(frozen=True)
class ConsoleLine:
    """A line of the console, or a note of the recording itself."""

    time: float
    """When its first byte came."""
    kind: str
    data: bytes
    """With its line end, if that was received."""
    cut: bool = False
    """It was too long, and goes on in the next one."""


class Lines:
    """Makes lines of pieces."""

    def __init__(self) -> None:
        self._begun = b""
        self._time = 0.0

    def feed(self, record: HistoryRecord) -> Iterator[ConsoleLine]:
        """The lines that this piece completes."""
        if record.kind != "data":
            yield from self.rest()
            yield ConsoleLine(record.time, record.kind, record.data)
            return
        if not self._begun:
            self._time = record.time
        data = self._begun + record.data
        end = 0
        for line in lines_of(data):
            end += len(line)
            yield ConsoleLine(self._time, "data", line, cut=not line.endswith((b"\n", b"\r")))
            self._time = record.time
        self._begun = data[end:]

    def rest(self) -> Iterator[ConsoleLine]:
        """The line that has no end yet."""
        if self._begun:
            yield ConsoleLine(self._time, "data", self._begun)
            self._begun = b""


def parse_since(text: str, now: datetime) -> float:
    """A duration such as `10m` (ago), or a time such as 14:30 or 2026-11-24T14:30, as seconds since 1970.

    Raises:
        ValueError: it is neither.
    """
    if text.strip()[-1:].isalpha():
        with suppress(TimeFormatError):
            return now.timestamp() - parse_duration(text, allow_zero=True)
    try:
        if re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?", text.strip()):
            clock = datetime.strptime(text.strip(), "%H:%M:%S" if text.count(":") == 2 else "%H:%M")  # noqa: DTZ007
            then = now.replace(hour=clock.hour, minute=clock.minute, second=clock.second, microsecond=0)
            return (then if then <= now else then - timedelta(days=1)).timestamp()
        return datetime.fromisoformat(text.strip()).astimezone().timestamp()
    except ValueError:
        raise ValueError(f"{text!r} is not a valid time; write 10m, 2h, 14:30 or 2026-11-24T14:30") from None


def show(line: ConsoleLine, *, wanted: re.Pattern[str] | None, timestamps: bool, harmless: bool) -> bytes:
    """A line as it is printed; empty when `wanted` does not match. `harmless` leaves a terminal nothing to obey."""
    from jumpstarter_client.console.matcher import plain  # noqa: PLC0415 - raw output needs none of it

    # What draws over itself is shown line by line, and over nothing that stands in front of it.
    text = line.data.lstrip(b"\r") if line.kind == "data" else line.data
    if wanted is not None and not (line.kind == "data" and wanted.search(plain(text))):
        return b""
    if line.kind != "data":
        text = b"[jumpstarter: " + (b"bookmark " if line.kind == "mark" else b"") + text + b"]\n"
    elif line.cut:
        text += b" [jumpstarter: the line goes on]\n"
    elif text.endswith(b"\r"):
        text = text.rstrip(b"\r") + b"\n"
    if harmless:
        text = printable(plain(text).expandtabs()).encode()
    if timestamps:
        when = datetime.fromtimestamp(line.time).astimezone()
        text = f"{when:%Y-%m-%d %H:%M:%S}.{when.microsecond // 1000:03d} ".encode() + text
    return text
