"""The result of a benchmark row, and its line in the table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Result:
    """One row: both sides' medians from one run, and their ratio against what it should be.

    `ratio` is ours divided by the peer's. With `at_most` it must not be above `target`, else not below; without a
    target it is only shown. A row with a limit has the limit for its peer, and a target of 1.
    """

    row: str
    peer: str
    what: str
    unit: str
    theirs: float
    ours: float
    target: float | None
    at_most: bool
    repeats: int
    spread: str = ""
    note: str = ""
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    @property
    def met(self) -> bool:
        if self.target is None:
            return True
        return self.ratio <= self.target if self.at_most else self.ratio >= self.target

    def as_json(self) -> dict[str, Any]:
        return {
            "row": self.row,
            "peer": self.peer,
            "what": self.what,
            "unit": self.unit,
            "theirs": self.theirs,
            "ours": self.ours,
            "ratio": self.ratio,
            "target": self.target,
            "at_most": self.at_most,
            "met": self.met,
            "repeats": self.repeats,
            "spread": self.spread,
            "note": self.note,
            "detail": self.detail,
        }


def interleaved(
    repeats: int, theirs: Callable[[], float], ours: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Measure A B A B, so that what disturbs the machine disturbs both. A first round does not count."""
    theirs()
    ours()
    pairs = [(theirs(), ours()) for _ in range(repeats)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def filled(row: Result, theirs: Sequence[float], ours: Sequence[float], **changes: Any) -> Result:
    """The row with both sides' medians, spread and what else is known."""
    return replace(
        row,
        theirs=statistics.median(theirs),
        ours=statistics.median(ours),
        repeats=len(ours),
        spread=spread(theirs, ours),
        **changes,
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The value that a share (0.99) of them does not exceed; the very largest of few."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def spread(theirs: Sequence[float], ours: Sequence[float]) -> str:
    """The middle half of each side's values as a share of its median, theirs and ours."""
    return " ".join(f"±{_half_width(values):.0%}" for values in (theirs, ours) if len(values) > 1)


def _half_width(values: Sequence[float]) -> float:
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / 2 / statistics.median(values)


def table(results: Sequence[Result]) -> str:
    """The rows as text, columns aligned."""
    lines: list[tuple[str, ...]] = [
        ("ours against", "what", "theirs", "ours", "ratio", "to reach", "", "runs", "spread")
    ]
    lines += [_line(result) for result in results]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = [_aligned(line, widths) for line in lines]
    text.insert(1, "-" * max(len(line) for line in text))
    notes = [f"{result.row}: {result.note}" for result in results if result.note]
    return "\n".join([*text, "", *notes])


def _line(result: Result) -> tuple[str, ...]:
    return (
        result.peer,
        result.what,
        _figure(result.theirs, result.unit),
        _figure(result.ours, result.unit),
        f"{result.ratio:.2f}",
        *_verdict(result),
        str(result.repeats),
        result.spread,
    )


def _verdict(result: Result) -> tuple[str, str]:
    if result.target is None:
        return "", ""
    return f"{'≤' if result.at_most else '≥'} {result.target:.2f}", "ok" if result.met else "MISSED"


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.ljust(width) if i < 2 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _figure(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value * 1000:.0f} ms" if value >= 0.01 else f"{value * 1000:.2f} ms"
    if unit == "packages":
        return f"{value:.0f}"
    return f"{value:.0f} {unit}"
