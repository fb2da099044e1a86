"""Texts that a peer wrote, made fit for a log and a terminal: nothing in them moves a cursor or begins a line."""

from __future__ import annotations

__all__ = ["shown"]


def shown(text: str, most: int = 200) -> str:
    """The text on one line, with escapes for what is not printable, cut after `most` characters."""
    cut = text[:most]
    if not cut.isprintable():
        cut = "".join(
            one if one.isprintable() else one.encode("unicode_escape", "backslashreplace").decode()
            for one in cut
        )
    return cut if len(text) <= most else f"{cut}…"
