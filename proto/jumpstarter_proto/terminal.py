"""The one way to a user's terminal. Whatever is in what is said, it takes the lines that it should, and does nothing.

A test holds that no other module writes to standard output or error: what a peer wrote is in many sentences, and nobody
would remember to clean each.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from jumpstarter_proto.texts import fitted, printable, shown

__all__ = [
    "Styled",
    "erase_line",
    "print_error_line",
    "print_error_text",
    "print_line",
    "print_text",
    "redraw_line",
    "redraw_lines",
    "wants_colour",
]

MAX_LINE_LENGTH = 64 * 1024
"""Characters of one line; more is no line for a person."""
_ERASE = "\r\x1b[K"


def wants_colour(to: TextIO) -> bool:
    """Whether a stream is a terminal whose user has not turned colour off."""
    return to.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@dataclass(frozen=True)
class Styled:
    """A part of a line in a style: the number of an SGR sequence, such as 31 for red, or none."""

    text: str
    style: str = ""

    def __str__(self) -> str:
        text = shown(self.text, MAX_LINE_LENGTH)
        return f"\x1b[{self.style}m{text}\x1b[0m" if self.style else text


def print_line(*parts: str | Styled, to: TextIO | None = None, flush: bool = False) -> None:
    """One line, on standard output unless said otherwise."""
    to = to or sys.stdout
    _write(_joined(parts) + "\n", to)
    if flush:
        to.flush()


def print_text(text: str, to: TextIO | None = None) -> None:
    """A text of several lines, each with its own end: a page of help, a table, data."""
    _write(printable(text), to or sys.stdout)


def print_error_line(*parts: str | Styled) -> None:
    """One line on standard error, at once."""
    print_line(*_coloured(parts), to=sys.stderr, flush=True)


def print_error_text(text: str, *, raw: bool = False) -> None:
    """A text of several lines on standard error, at once; `raw` for a terminal that does not begin lines by itself."""
    text = "".join(map(str, _coloured([printable(text)])))
    _write(text.replace("\n", "\r\n") if raw else text, sys.stderr)
    sys.stderr.flush()


_MESSAGE_COLOURS = {"error:": "31", "warning:": "33"}


def _coloured(parts: Sequence[str | Styled]) -> list[str | Styled]:
    """The parts of a message, with the word at its begin in a colour if the terminal has colours."""
    first = parts[0] if parts else ""
    word = first.partition(" ")[0] if isinstance(first, str) else ""
    if word not in _MESSAGE_COLOURS or not wants_colour(sys.stderr):
        return list(parts)
    return [Styled(word, _MESSAGE_COLOURS[word]), str(first)[len(word) :], *parts[1:]]


def redraw_line(line: str, to: TextIO, *, width: int | None = None) -> None:
    """A line of a terminal, in place of what stands there; without an end, so that it can be drawn again."""
    line = shown(line, MAX_LINE_LENGTH)
    _write(f"\r{line if width is None else fitted(line, width)}\x1b[K", to)
    to.flush()


def redraw_lines(lines: Sequence[str], to: TextIO, *, above: int, width: int) -> None:
    """Lines of a terminal, in place of those `above` the cursor and all below."""
    up = f"\x1b[{above}A" if above else ""
    drawn = "".join(f"{fitted(shown(line, MAX_LINE_LENGTH), width)}\n" for line in lines)
    _write(f"\r{up}\x1b[J{drawn}", to)
    to.flush()


def erase_line(to: TextIO) -> None:
    """Take away what `redraw_line` drew."""
    to.write(_ERASE)
    to.flush()


def _joined(parts: Sequence[str | Styled]) -> str:
    return "".join(str(part) if isinstance(part, Styled) else shown(part, MAX_LINE_LENGTH) for part in parts)


def _write(text: str, to: TextIO) -> None:
    """What the terminal's encoding has no letter for is escaped as well."""
    try:
        to.write(text)
    except UnicodeEncodeError:
        encoding = to.encoding or "ascii"
        to.write(text.encode(encoding, "backslashreplace").decode(encoding))
