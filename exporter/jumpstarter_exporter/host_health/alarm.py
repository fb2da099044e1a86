"""Waits for the kernel's word that the supply is too low, which it may take back two seconds later."""

from __future__ import annotations

import select

import trio

from jumpstarter_exporter.host_health.host_files import HostFiles
from jumpstarter_exporter.host_health.read_hardware import undervoltage_alarm

__all__ = ["until_undervoltage"]

_SHORT = 16
_NOTICE = select.EPOLLPRI | select.EPOLLERR
"""How sysfs tells that an attribute is another (sysfs_notify of the kernel): until it is read again."""


async def until_undervoltage(files: HostFiles) -> None:
    """Returns when the kernel says so, or has said so and took it back; never where it does not tell.

    Opens and reads one file of sysfs, which costs no I/O. OSError: it cannot be read. A cancellation leaves nothing.
    """
    place = undervoltage_alarm(files)
    if place is None:
        await trio.sleep_forever()
    with files.path(place).open("rb", buffering=0) as file, select.epoll(1) as notices:
        if file.read(_SHORT).strip() == b"1":  # from here on it is told of changes
            return
        try:
            notices.register(file.fileno(), _NOTICE)
        except PermissionError:  # a file that tells nobody
            await trio.sleep_forever()
        # trio waits for the set to be readable, which it is when something in it has news.
        await trio.lowlevel.wait_readable(notices.fileno())
