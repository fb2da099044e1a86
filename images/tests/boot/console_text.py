"""The end of a console's output as a page can show it."""

from __future__ import annotations

import re

from jumpstarter_client.console.escapes import strip_escapes

__all__ = ["last_lines"]


def last_lines(output: bytes, count: int = 25) -> str:
    """The last lines that are not empty, without the sequences of a terminal and other control characters."""
    text = re.sub(r"[^\t\n -~\xa0-\U0010ffff]", "", strip_escapes(output).decode(errors="replace"))
    lines = [line.rstrip() for line in text.split("\n")]
    return "\n".join([line for line in lines if line][-count:])
