"""Garbage collection in a process that lasts."""

from __future__ import annotations

import gc

__all__ = ["keep_what_is_there"]


def keep_what_is_there() -> None:
    """What there is by now stays: looking through it for garbage again and again would block the event loop.

    For a daemon, when it has started and before it serves.
    """
    gc.collect()
    gc.freeze()
