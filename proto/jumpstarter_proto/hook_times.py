"""How long a board's beforeLease hook usually takes, in the words in which an exporter says so and a client finds it.

It stands in the message of a session's status, which people read, too; peers that do not know it lose nothing.
"""

from __future__ import annotations

import re

__all__ = ["running_hook", "usual_seconds"]

_RUNNING = "Running beforeLease hook"
_USUAL = re.compile(r"usually takes (\d{1,7}) s\)$")


def running_hook(usual: float | None) -> str:
    """The message while it runs; `usual` in seconds, if that is known."""
    return _RUNNING if usual is None else f"{_RUNNING} (it usually takes {usual:.0f} s)"


def usual_seconds(message: str) -> float | None:
    """What that message says; None if it says nothing."""
    found = _USUAL.search(message)
    return float(found[1]) if found else None
