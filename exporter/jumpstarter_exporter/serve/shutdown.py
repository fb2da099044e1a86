"""Limits how long the end of an exporter's process can take, whatever drivers and peers do."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.process import Daemon

from jumpstarter_exporter.hooks.runner import kill_hooks

__all__ = ["device_names_text", "force_exit_on_signal", "limit_shutdown_time"]

MAX_DEVICES = 8
"""Devices that one message names."""

_log = logging.getLogger(__name__)


def limit_shutdown_time(seconds: float, closing: Callable[[], Sequence[str]] = tuple) -> None:
    """End the process so many seconds from now: what blocks in a worker thread cannot be cancelled.

    `closing` names the devices that are being closed; it is called in another thread.
    """

    def give_up() -> None:
        _log.error(
            "%s did not close within %g s; the hardware keeps its state",
            device_names_text(closing()),
            seconds,
        )
        kill_hooks()
        os._exit(ExitCode.FAILED)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()


def device_names_text(devices: Sequence[str]) -> str:
    """Devices for the beginning of a sentence. Their names may be anything."""
    if not devices:
        return "a device"
    more = f" and {len(devices) - MAX_DEVICES} more" if len(devices) > MAX_DEVICES else ""
    return f"the device{'s' if len(devices) > 1 else ''} {', '.join(devices[:MAX_DEVICES])}{more}"


async def force_exit_on_signal(daemon: Daemon) -> None:
    """End the process at once at the next SIGTERM or SIGINT."""
    number = await daemon.wait_for_stop()
    kill_hooks()  # the devices that they use are gone in a moment
    os._exit(128 + number)
