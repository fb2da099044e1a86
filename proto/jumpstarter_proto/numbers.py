"""Numbers in texts of other programs: of the environment, of the kernel's files, of systemd."""

from __future__ import annotations

__all__ = ["MAX_DIGITS", "find_number"]

MAX_DIGITS = 18
"""Such a number fits 64 bits. Python refuses to read thousands of digits, and a float has no place for hundreds."""


def find_number(text: str) -> int | None:
    """The number without a sign that is all of the text; None if it is something else, or has too many digits.

    `str.isdigit` is true for a text such as `²` as well, which `int` refuses.
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else None
