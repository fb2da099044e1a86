"""A progress bar with rate and time left, on a terminal's standard error; nothing is written elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from jumpstarter_client.status_line import QUIET_SECONDS, TerminalLine, is_live

__all__ = ["Bar", "is_live", "progress"]

REDRAW_SECONDS = 0.1
BAR_WIDTH = 20


class Bar:
    """The progress of one job, in bytes. Calls are cheap; most draw nothing."""

    def __init__(
        self,
        total: float | None,
        label: str,
        output: TextIO | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._label = label
        self._line = TerminalLine(output)
        self._clock = clock
        self._started = clock()
        self._drawn_at: float | None = None

    def update(self, done: float) -> None:
        """Show that `done` bytes are done."""
        self._draw(self._label, done, self._total)

    def show(self, phase: str, done: float, total: float | None, note: str = "") -> None:
        """Show another phase of the job, whose rate counts from its own start, and a `note` after the bar."""
        if phase != self._label:
            self._label = phase
            self._started = self._clock()
        self._draw(phase, done, total, note)

    def finish(self) -> None:
        """Erase the bar."""
        self._line.erase()

    def _draw(self, label: str, done: float, total: float | None, note: str = "") -> None:
        now = self._clock()
        elapsed = now - self._started
        if elapsed < QUIET_SECONDS or (self._drawn_at is not None and now - self._drawn_at < REDRAW_SECONDS):
            return
        self._drawn_at = now
        text = line(label, done, total, elapsed)
        self._line.draw(f"{text}  ({note})" if note else text)


def line(label: str, done: float, total: float | None, elapsed: float) -> str:
    """Format a bar: the share, the rate, and the time left."""
    rate = done / elapsed if elapsed > 0 else 0.0
    speed = f"{_size(rate)}/s"
    if not total:
        return f"{label} {_size(done)}  {speed}"
    share = min(done / total, 1.0)
    filled = int(share * BAR_WIDTH)
    drawn = "#" * filled + "." * (BAR_WIDTH - filled)
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
    """Show a bar during a block; `total` is in bytes, or None if it is unknown."""
    bar = Bar(total, label, sys.stderr if is_live(sys.stderr) else None)
    try:
        yield bar
    finally:
        bar.finish()
