"""What a verb returned, as people or scripts want it."""

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
    """Nothing for None, item by item for iterators, text for people, data if it was asked for."""
    if isinstance(result, Iterator):
        # Closed at once when nobody reads on, while there still is a connection to end it on.
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
    """As JSON or YAML. Whole numbers stay whole."""
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
    """Whether no character has to be escaped. Formats escape control characters, but none that only change an order."""
    return printable(text) == text


def _plain(item: object) -> object:
    """What JSON knows, in the order in which it was written."""
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


LONGEST = 1000


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of columns, the titles first. What peers wrote stays in its cell."""
    rows = [[shown(text, LONGEST) for text in row] for row in rows]
    widths = [max(map(cells, column)) for column in zip(titles, *rows, strict=True)]
    lines = (
        "  ".join(padded(text, width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in (titles, *rows)
    )
    return "".join(f"{line}\n" for line in lines)
