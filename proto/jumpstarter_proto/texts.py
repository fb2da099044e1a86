"""Texts that a peer wrote, made fit for a log and a terminal: nothing in them moves a cursor or begins a line."""

from __future__ import annotations

__all__ = ["printable", "shown"]


def printable(text: str) -> str:
    """The text in its lines, with escapes for all else that is not printable."""
    if text.isprintable():
        return text
    return "".join(one if one == "\n" or one.isprintable() else _escaped(one) for one in text)


def shown(text: str, most: int = 200) -> str:
    """The text on one line, with escapes for what is not printable, cut after `most` characters."""
    cut = text[:most]
    if not cut.isprintable():
        cut = "".join(one if one.isprintable() else _escaped(one) for one in cut)
    return cut if len(text) <= most else f"{cut}…"


def _escaped(one: str) -> str:
    return one.encode("unicode_escape", "backslashreplace").decode()
