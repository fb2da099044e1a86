"""How much of what was recorded the user of the current call may see."""

from __future__ import annotations

from contextvars import ContextVar

__all__ = ["see_all", "sees_all"]

_all: ContextVar[bool] = ContextVar("sees all", default=False)


def see_all() -> None:
    """Let the current call's user see what was there before their session, too."""
    _all.set(True)


def sees_all() -> bool:
    """Whether they may."""
    return _all.get()
