"""Tables for people: columns as wide as what stands in them."""

from __future__ import annotations

from collections.abc import Sequence

from jumpstarter_proto.texts import cells, padded, shown

__all__ = ["table"]

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
