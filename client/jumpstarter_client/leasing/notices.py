"""What a user is told beside the output of a command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeAlias

from jumpstarter_proto.terminal import erase_line, print_error_text

__all__ = ["Notify", "to_terminal"]

Notify: TypeAlias = Callable[[str], None]
"""Gets one sentence."""


def to_terminal(sentence: str) -> None:
    """On standard error. A terminal may be anybody's for the moment, such as a console's that does not end lines."""
    if sys.stderr.isatty():
        erase_line(sys.stderr)
    print_error_text(f"{sentence}\n", raw=sys.stderr.isatty())
