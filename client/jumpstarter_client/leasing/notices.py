"""What a user is told beside the output of a command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeAlias

from jumpstarter_proto.texts import printable

__all__ = ["Notify", "to_terminal"]

Notify: TypeAlias = Callable[[str], None]
"""Gets one sentence."""


def to_terminal(sentence: str) -> None:
    """On standard error. A terminal may be anybody's for the moment, such as a console's that does not end lines."""
    sentence = printable(sentence)
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{sentence}\r\n")
    else:
        sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()
