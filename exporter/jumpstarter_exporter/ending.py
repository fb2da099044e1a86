"""The end of an exporter's process, which nothing may hold up: neither a driver's blocking code nor a slow peer."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence

from jumpstarter_proto.errors import ExitCode

from jumpstarter_exporter.hooks.runner import kill_hooks

__all__ = ["end_in_time", "hurry", "named"]

MAX_DEVICES = 8
"""That are named in one sentence."""

_log = logging.getLogger(__name__)


def end_in_time(seconds: float, closing: Callable[[], Sequence[str]] = tuple) -> None:
    """End the process so many seconds from now: what blocks in a worker thread cannot be cancelled.

    `closing` names the devices that are being closed; it is called in another thread.
    """

    def give_up() -> None:
        _log.error("%s did not close within %g s; the hardware is left as it is", named(closing()), seconds)
        kill_hooks()
        os._exit(ExitCode.FAILED)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()


def named(devices: Sequence[str]) -> str:
    """Devices, for the begin of a sentence. Their names are whatever a configuration says."""
    if not devices:
        return "a device"
    more = f" and {len(devices) - MAX_DEVICES} more" if len(devices) > MAX_DEVICES else ""
    return f"the device{'s' if len(devices) > 1 else ''} {', '.join(devices[:MAX_DEVICES])}{more}"


async def hurry(signals: AsyncIterator[int]) -> None:
    """End the process at the next signal, at once."""
    async for number in signals:
        kill_hooks()  # the devices that they use are gone in a moment
        os._exit(128 + number)
