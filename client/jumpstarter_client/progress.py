"""A line of progress with rate and time left, for what takes longer than a moment.

Only on a terminal's standard error; anywhere else nothing is written. It is drawn here and not by a library
because it is one line, and a terminal library costs a command more start-up time than the whole drawing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from jumpstarter_proto.terminal import erase_line, redraw_line

__all__ = ["Bar", "is_live", "progress"]

INTERVAL = 0.1
"""Seconds between two drawings."""
QUIET = 0.3
"""Seconds that pass before anything is drawn: what is done by then needs no bar."""
WIDTH = 20


class Bar:
    """Progress of one job, in bytes. Calls are cheap; most draw nothing."""

    def __init__(
        self,
        total: float | None,
        label: str,
        output: TextIO | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._label = label
        self._output = output
        self._clock = clock
        self._started = clock()
        self._drawn: float | None = None

    def update(self, done: float) -> None:
        """So many bytes are done."""
        self._draw(self._label, done, self._total)

    def show(self, phase: str, done: float, total: float | None, note: str = "") -> None:
        """Another phase of the same job; its rate counts from its own beginning. `note` says what else there is."""
        if phase != self._label:
            self._label = phase
            self._started = self._clock()
        self._draw(phase, done, total, note)

    def finish(self) -> None:
        """Take the line away; what the command prints says the rest."""
        if self._output is not None and self._drawn is not None:
            erase_line(self._output)

    def _draw(self, label: str, done: float, total: float | None, note: str = "") -> None:
        if self._output is None:
            return
        now = self._clock()
        elapsed = now - self._started
        if elapsed < QUIET or (self._drawn is not None and now - self._drawn < INTERVAL):
            return
        self._drawn = now
        text = line(label, done, total, elapsed)
        redraw_line(f"{text}  ({note})" if note else text, self._output)


def line(label: str, done: float, total: float | None, elapsed: float) -> str:
    """What a bar shows: how much of what, how fast, how much longer."""
    rate = done / elapsed if elapsed > 0 else 0.0
    speed = f"{_size(rate)}/s"
    if not total:
        return f"{label} {_size(done)}  {speed}"
    share = min(done / total, 1.0)
    filled = int(share * WIDTH)
    drawn = "#" * filled + "." * (WIDTH - filled)
    left = f"{_duration((total - done) / rate)} left" if rate > 0 else "waiting"
    return f"{label} [{drawn}] {share:4.0%}  {_size(done)} of {_size(total)}  {speed}  {left}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


@contextmanager
def progress(total: float | None, label: str) -> Iterator[Bar]:
    """A bar for the length of a block; `total` in bytes, None when nobody knows."""
    bar = Bar(total, label, sys.stderr if is_live(sys.stderr) else None)
    try:
        yield bar
    finally:
        bar.finish()


def is_live(output: TextIO) -> bool:
    """Whether a line can be drawn again there, and somebody wants it."""
    if os.environ.get("NONINTERACTIVE", "").lower() in ("1", "true") or os.environ.get("TERM") == "dumb":
        return False
    try:
        return output.isatty()
    except ValueError:  # closed
        return False
