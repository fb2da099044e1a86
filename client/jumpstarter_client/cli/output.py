"""Prints results as text for people, or as data for scripts; and tables."""

from __future__ import annotations

import dataclasses
import enum
import json
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext

from jumpstarter_proto.terminal import print_line, print_text
from jumpstarter_proto.texts import cells, padded, printable, shown
from jumpstarter_proto.value import from_value, to_value

__all__ = ["table", "write_data", "write_result"]


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


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table with a header. Texts from peers cannot leave their cell."""
    rows = [[shown(text, MAX_CELL_LENGTH) for text in row] for row in rows]
    widths = [max(map(cells, column)) for column in zip(titles, *rows, strict=True)]
    lines = (
        "  ".join(padded(text, width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in (titles, *rows)
    )
    return "".join(f"{line}\n" for line in lines)
