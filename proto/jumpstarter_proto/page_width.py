"""Fits texts to the width of a terminal: lines end between words, and no word is broken.

A pipe or a file has no width: what is written there stays as it is, unless COLUMNS says otherwise.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TextIO

from jumpstarter_proto.terminal import Styled, print_text
from jumpstarter_proto.texts import cells, padded

__all__ = ["fit_page", "fit_table", "print_page", "terminal_width", "wrap"]

MIN_WIDTH = 20
"""A narrower terminal is one that does not know its width."""
_TWO_COLUMNS = re.compile(r"( *)(\S(?:.*?\S)?)  +(\S.*)")


def terminal_width(to: TextIO | None = None) -> int | None:
    """Return the columns of a line: COLUMNS, or those of the terminal; None if it is no terminal."""
    given = os.environ.get("COLUMNS", "")
    width = int(given) if given.isascii() and given.isdigit() and len(given) < 6 else 0
    to = to or sys.stdout
    if not width:
        try:
            width = os.get_terminal_size(to.fileno()).columns
        except (OSError, ValueError):
            return None
    return width if width >= MIN_WIDTH else None


def wrap(text: str, width: int) -> list[str]:
    """Break a printable text into lines of that width, at blanks, and lists without blanks behind their commas.

    A longer word has a line of its own.
    """
    lines, line = [], ""
    for blanks, word in re.findall(r"( *)([^ ]+)", text):
        pieces = re.findall(r"[^,]*,+|[^,]+", word) if cells(word) > width else [word]
        for number, piece in enumerate(pieces):
            gap = "" if number else blanks
            if line and cells(line) + len(gap) + cells(piece) > width:
                lines.append(line)
                line = piece
            else:
                line += gap + piece if line else piece
    return [*lines, line]


def print_page(text: str) -> None:
    """Print a page of help that fits the terminal."""
    print_text(fit_page(text, terminal_width()))


def fit_page(text: str, width: int | None) -> str:
    """Fit a page of help: paragraphs, lines with a text beside a term, and commands."""
    if width is None or all(cells(line) <= width for line in text.split("\n")):
        return text
    return "\n".join(_page_lines(text.split("\n"), width))


def _page_lines(lines: Sequence[str], width: int) -> Iterator[str]:
    for is_prose, group in groupby(
        lines, key=lambda line: bool(line) and not line.startswith((" ", "Usage:"))
    ):
        found = list(group)
        if is_prose and any(cells(line) > width for line in found):
            yield from wrap(" ".join(found), width)
        else:
            for line in found:
                yield from _page_line(line, width)


def _page_line(line: str, width: int) -> Iterator[str]:
    if cells(line) <= width:
        yield line
        return
    columns = _TWO_COLUMNS.fullmatch(line)
    if columns is None:
        indent = len(line) - len(line.lstrip(" "))
        first, *others = wrap(line.lstrip(" "), width - indent - 4)
        yield " " * indent + first
        yield from (" " * (indent + 4) + one for one in others)
        return
    blanks, term, text = columns.groups()
    before = line[: columns.start(3)]
    start = cells(before)
    if start > width // 2:
        yield from _page_line(blanks + term, width)
        yield from (f"{blanks}    {one}" for one in wrap(text, width - len(blanks) - 4))
        return
    first, *others = wrap(text, width - start)
    yield before + first
    yield from (" " * start + one for one in others)


def fit_table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None,
    style: Callable[[str, str], str] = lambda title, text: "",
) -> list[list[Styled]]:
    """Return the lines of a table. Where it does not fit, cells have several lines, or each row is a list.

    `style` gives the style of a cell, by its title and text.
    """
    columns = list(zip(titles, *rows, strict=True))
    widths = [max(map(cells, column)) for column in columns]
    gaps = 2 * (len(widths) - 1)
    if width is not None and sum(widths) + gaps > width:
        least = [max(cells(one) for text in column for one in wrap(text, 1)) for column in columns]
        if sum(least) + gaps > width:
            return _as_lists(titles, rows, width, style)
        while sum(widths) + gaps > width:
            widest = max(range(len(widths)), key=lambda index: (widths[index] > least[index], widths[index]))
            widths[widest] -= 1
    lines = list(_table_row([(text, "") for text in titles], widths))
    for row in rows:
        styled = [(text, style(title, text)) for title, text in zip(titles, row, strict=True)]
        lines += _table_row(styled, widths)
    return lines


def _table_row(row: Sequence[tuple[str, str]], widths: Sequence[int]) -> Iterator[list[Styled]]:
    parts = [
        wrap(text, width) if cells(text) > width else [text]
        for (text, _), width in zip(row, widths, strict=True)
    ]
    for number in range(max(map(len, parts))):
        line = [part[number] if number < len(part) else "" for part in parts]
        last = max((index for index, text in enumerate(line) if text), default=0)
        found: list[Styled] = []
        for text, width, (_, style) in zip(line[: last + 1], widths, row, strict=False):
            gap = "" if len(found) // 2 == last else " " * (width - cells(text) + 2)
            found += [Styled(text, style if text else ""), Styled(gap)]
        yield found


def _as_lists(
    titles: Sequence[str], rows: Sequence[Sequence[str]], width: int, style: Callable[[str, str], str]
) -> list[list[Styled]]:
    start = max(map(cells, titles)) + 2
    lines: list[list[Styled]] = []
    for row in rows:
        lines += [[]] if lines else []
        for title, text in zip(titles, row, strict=True):
            if text:
                first, *others = wrap(text, max(1, width - start))
                lines.append([Styled(padded(title, start)), Styled(first, style(title, text))])
                lines += [[Styled(" " * start + one)] for one in others]
    return lines
