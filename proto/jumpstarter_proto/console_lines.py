r"""Splits console output into lines, for recordings and for display. No I/O.

A line ends with a line feed, carriage returns in front of it or not, or with carriage returns alone, as progress bars
and some boot loaders do it: what is drawn over was a line. Carriage returns in front of a line's text are the line's
(`\n\r` is one end). A line that grows without end is cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["LINE_BYTES", "begin_of_last", "ends_in", "lines_of"]

LINE_BYTES = 64 * 1024
"""Where a line is cut, its end counted."""

# Nothing here is tried twice: a board may send a million carriage returns, and `re` holds all threads up.
_LINE = re.compile(rb"\r*+(?:\n|[^\r\n]++\r*+(?:\n|(?<=\r)(?=[^\r\n])))")
_END = re.compile(rb"\n|[^\r\n]\r+(?=[^\r\n])")
_LIKELY_END = re.compile(rb"\n|(?<=[^\r\n])\r+(?!\n)|\A\r")


def lines_of(data: bytes) -> Iterator[bytes]:
    """The lines that are complete; what is left of `data` behind them is the begin of one."""
    start = 0
    while True:
        # One byte more than a line may have: a line that ends with carriage returns is told by what follows it.
        found = _LINE.match(data, start, start + LINE_BYTES + 1)
        end = found.end() if found else len(data)
        if end - start > LINE_BYTES:
            end = start + LINE_BYTES
        elif not found:
            return
        yield data[start:end]
        start = end


def ends_in(piece: bytes) -> int:
    """About how many lines end in a piece, whatever stands beside it."""
    return len(_LIKELY_END.findall(piece)) + len(piece) // LINE_BYTES


def begin_of_last(data: bytes, count: int, *, whole: bool = False) -> tuple[int, int]:
    """Return where the last `count` lines of `data` begin, and how many more lines are needed before it.

    With `whole`, `data` is complete and begins with the begin of a line.
    """
    found = None if whole else _END.search(data)
    start = found.end() if found else 0
    sizes = [len(line) for line in lines_of(data[start:])]
    rest = len(data) - start - sum(sizes)
    if rest:
        sizes.append(rest)
    if whole or found or len(sizes) > count:
        return len(data) - sum(sizes[-count:]), 0 if whole else max(0, count - len(sizes))
    return 0, max(1, count - len(sizes) + 1)
