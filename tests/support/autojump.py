"""A clock that jumps to the next thing that is due, but not while a thread works: that is no waiting.

A plugin of pytest's that has a fixture in the place of pytest-trio's. Trio does not count threads, so its clock jumps
by minutes while one of the code under test writes to a disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import trio.testing

__all__ = ["autojump_clock"]


@pytest.fixture
def autojump_clock(monkeypatch: pytest.MonkeyPatch) -> trio.testing.MockClock:
    """As pytest-trio's. A thread that its caller may leave behind is one that waits, and holds nothing up."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    run_sync = trio.to_thread.run_sync
    working = 0

    async def counted(work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        nonlocal working
        if options.get("abandon_on_cancel"):
            return await run_sync(work, *args, **options)
        working += 1
        clock.autojump_threshold = math.inf
        try:
            return await run_sync(work, *args, **options)
        finally:
            working -= 1
            if not working:
                clock.autojump_threshold = 0

    monkeypatch.setattr(trio.to_thread, "run_sync", counted)
    return clock
