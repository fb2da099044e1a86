"""The end of an exporter's process, which nothing may hold up: neither a driver's blocking code nor a slow peer."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import AsyncIterator

from jumpstarter_proto.errors import ExitCode

from jumpstarter_exporter.hooks.runner import kill_hooks

__all__ = ["end_in_time", "hurry"]

_log = logging.getLogger(__name__)


def end_in_time(seconds: float) -> None:
    """End the process so many seconds from now: what blocks in a worker thread cannot be cancelled."""

    def give_up() -> None:
        _log.error("a device did not close within %g s; its hardware is left as it is", seconds)
        kill_hooks()
        os._exit(ExitCode.FAILED)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()


async def hurry(signals: AsyncIterator[int]) -> None:
    """End the process at the next signal, at once."""
    async for number in signals:
        kill_hooks()  # the devices that they use are gone in a moment
        os._exit(128 + number)
