"""The usual duration of a beforeLease hook, as a sentence that exporters write and clients parse.

The sentence is part of the status message of a session, so it is also for people; other peers may ignore it.
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
