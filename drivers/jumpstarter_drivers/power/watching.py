"""Readings of a supply on a terminal: the last one, and a small plot of those before, on one line that changes."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TextIO

from jumpstarter_proto.terminal import print_text, redraw_line

from jumpstarter_drivers.power.reading import PowerReading

__all__ = ["plot", "watch_readings"]

MAX_POINTS = 60
_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = "_.-=+*%#"


def watch_readings(readings: Iterable[PowerReading], output: TextIO) -> None:
    """Draw each reading over the one before, until there are no more; the last one stays."""
    bars = _BARS if _can_show(_BARS, output) else _ASCII_BARS
    points: deque[float] = deque(maxlen=MAX_POINTS)
    try:
        for reading in readings:
            _, value, unit = main_value(reading)
            points.append(value)
            width = shutil.get_terminal_size().columns - 1
            redraw_line(line_of(reading, points, unit, bars, width), output)
    finally:
        if points:
            print_text("\n", output)
            output.flush()


def line_of(reading: PowerReading, points: Sequence[float], unit: str, bars: str, width: int) -> str:
    """The reading, a plot of what there is room for, and between which values it lies."""
    said = "  ".join(f"{value:.3g} {unit}" for _, value, unit in values_of(reading))
    lowest, highest = min(points), max(points)
    bounds = f"{lowest:.3g} to {highest:.3g} {unit}"
    room = width - len(said) - len(bounds) - 4
    return f"{said}  {plot(points, bars)[-room:]}  {bounds}" if room > 0 else said


def plot(points: Sequence[float], bars: str = _BARS) -> str:
    """A character for each value; the lowest and the highest value have the lowest and the highest bar."""
    lowest, highest = min(points), max(points)
    step = (highest - lowest) / (len(bars) - 1)
    return "".join(bars[round((value - lowest) / step) if step else 0] for value in points)


def values_of(reading: PowerReading) -> list[tuple[str, float, str]]:
    """Names, values and units of what was measured and changes by itself."""
    values = [("voltage", reading.voltage, "V")] if "voltage" in reading.measured else []
    values += [("current", reading.current, "A")] if "current" in reading.measured else []
    if reading.power is not None:
        return [*values, ("power", reading.power, "W")]
    return [*values, ("apparent_power", reading.apparent_power, "VA")] if len(values) == 2 else values


def main_value(reading: PowerReading) -> tuple[str, float, str]:
    """What is plotted: power if there is any, else what there is."""
    values = values_of(reading)
    return values[-1] if values else ("power", 0.0, "W")


def _can_show(text: str, output: TextIO) -> bool:
    try:
        text.encode(output.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
