"""Prints results as text for people, or as data for scripts; and tables."""

from __future__ import annotations

import dataclasses
import enum
import json
import re
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext

from jumpstarter_proto.page_width import fit_table, terminal_width, wrap
from jumpstarter_proto.terminal import Styled, print_line, print_text, wants_colour
from jumpstarter_proto.texts import printable, shown
from jumpstarter_proto.value import from_value, to_value

__all__ = ["print_described", "print_table", "state_colour", "table", "write_data", "write_result"]


def write_result(result: object, output: str | None) -> None:
    """Print the result of a verb: the items of iterators one by one, data if requested, or else text."""
    if isinstance(result, Iterator):
        # If printing fails, the generator is closed while the connection is still open.
        with closing(result) if isinstance(result, Generator) else nullcontext():
            for item in result:
                if output == "yaml":
                    print_line("---")
                write_result(item, output)
                sys.stdout.flush()
    elif result is None:
        return
    elif output in ("json", "yaml"):
        write_data(result, output)
    elif isinstance(result, dict | list):
        write_data(result, "yaml")
    else:
        print_text(str(result).replace("\r\n", "\n").expandtabs() + "\n")


def write_data(data: object, output: str) -> None:
    """Print data as JSON or YAML. Whole numbers are printed as integers."""
    plain = _plain(data)
    if output == "json":
        text = json.dumps(plain, indent=2, ensure_ascii=False)
        if not _is_printable(text):
            text = json.dumps(plain, indent=2)
        print_text(f"{text}\n")
        return
    import yaml  # noqa: PLC0415 - only who asks for it pays

    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    if not _is_printable(text):
        text = yaml.safe_dump(plain, sort_keys=False)
    print_text(text)


def _is_printable(text: str) -> bool:
    """Whether all characters are safe to print. JSON and YAML do not escape those that change the text direction."""
    return printable(text) == text


def _plain(item: object) -> object:
    """Convert to JSON types; the order of keys is kept."""
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        item = {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
    if isinstance(item, Mapping):
        return {str(key): _plain(value) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return [_plain(value) for value in item]
    if isinstance(item, enum.Enum):
        item = item.value
    if isinstance(item, str | int | None):
        return item
    plain = from_value(to_value(item))
    return int(plain) if isinstance(plain, float) and plain.is_integer() else plain


MAX_CELL_LENGTH = 1000


_COLOURS = {
    "free": "32",
    "ready": "32",
    "offline": "31",
    "failed": "31",
    "missing": "31",
    "busy": "33",
    "starting": "33",
}
_COLOURS |= {"waiting": "33", "invalid": "31", "unsatisfiable": "31"}
"""By the first word of a state."""


def state_colour(state: str) -> str:
    """Return the style of a state's name; empty for an unknown one."""
    return _COLOURS.get(re.split(r"\W", state, maxsplit=1)[0], "")


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table with a header that fits the terminal. Texts from peers cannot leave their cell."""
    lines = _table_lines(titles, rows, is_coloured=False)
    return "".join("".join(part.text for part in line) + "\n" for line in lines)


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print such a table. On a terminal, states have colours."""
    for line in _table_lines(titles, rows, is_coloured=wants_colour(sys.stdout)):
        print_line(*line)


def _table_lines(
    titles: Sequence[str], rows: Sequence[Sequence[str]], *, is_coloured: bool
) -> list[list[Styled]]:
    def style(title: str, text: str) -> str:
        return state_colour(text) if is_coloured and title == "STATE" else ""

    width = terminal_width()
    cut = [[shown(text, MAX_CELL_LENGTH) for text in row] for row in rows]
    # The last column of a terminal stays free, because some begin a new line behind it.
    return fit_table(titles, cut, width and width - 1, style)


def print_described(lines: Iterable[str]) -> None:
    """Print lines such as `name:   text`. On a terminal, long texts continue below themselves; states have colours."""
    width = terminal_width()
    is_coloured = wants_colour(sys.stdout)
    for line in lines:
        line = shown(line, MAX_CELL_LENGTH)  # noqa: PLW2901
        name = match[0] if (match := re.match(r"[^:]*: +", line)) else ""
        text = line[len(name) :]
        first, *others = wrap(text, max(MIN_TEXT_WIDTH, width - len(name))) if width else [text]
        style = state_colour(first) if is_coloured and name.startswith("state:") else ""
        print_line(name, Styled(first, style))
        for one in others:
            print_line(" " * len(name) + one)


MIN_TEXT_WIDTH = 20
