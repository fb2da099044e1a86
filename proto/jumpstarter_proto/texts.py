"""Texts that a peer wrote, made fit for a log and a terminal: nothing in them moves a cursor or begins a line."""

from __future__ import annotations

import unicodedata

__all__ = ["cells", "fitted", "not_text", "padded", "printable", "shown"]

MAX_MARKS = 3
"""Combining marks on one letter; more of them cover the lines above and below."""


def printable(text: str) -> str:
    """The text in its lines, with escapes for all else that is not printable."""
    if text.isascii() and text.isprintable():
        return text
    return "\n".join(_line(line) for line in text.split("\n"))


def shown(text: str, most: int = 200) -> str:
    """The text on one line, with escapes for what is not printable, cut after `most` characters."""
    cut = _line(text[:most])
    return cut if len(text) <= most else f"{cut}…"


def not_text(error: UnicodeEncodeError) -> str:
    """A sentence for who typed a word that is not UTF-8: Python gives such bytes as lone surrogates."""
    return f"{shown(error.object)} is not text in UTF-8; type it again"


def cells(text: str) -> int:
    """Columns that a printable text takes on a terminal."""
    return len(text) if text.isascii() else sum(map(_cells_of, text))


def fitted(text: str, width: int) -> str:
    """A printable text in no more than so many columns, the last of which says that something was cut."""
    if cells(text) <= width:
        return text
    kept, used = [], 1
    for one in text:
        used += _cells_of(one)
        if used > width:
            break
        kept.append(one)
    return "".join(kept) + "…" if width > 0 else ""


def padded(text: str, width: int) -> str:
    """A printable text with blanks behind it, so that it takes at least so many columns."""
    return text + " " * (width - cells(text))


def _line(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    found, marks = [], 0
    for one in text:
        marks = marks + 1 if _is_mark(one) else 0
        found.append(one if one.isprintable() and marks <= MAX_MARKS else _escaped(one))
    return "".join(found)


def _is_mark(one: str) -> bool:
    return unicodedata.category(one) in ("Mn", "Me")


def _cells_of(one: str) -> int:
    if _is_mark(one):
        return 0
    return 2 if unicodedata.east_asian_width(one) in "WF" else 1


def _escaped(one: str) -> str:
    # Combining marks are printable, for which unicode_escape has an escape all the same.
    return one.encode("unicode_escape", "backslashreplace").decode()
