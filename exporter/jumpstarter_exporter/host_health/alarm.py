"""Waits for the kernel's alarm that the supply voltage is too low; it may be cleared two seconds later."""

from __future__ import annotations

import select

import trio

from jumpstarter_exporter.host_health.host_files import HostFiles
from jumpstarter_exporter.host_health.read_hardware import undervoltage_alarm

__all__ = ["until_undervoltage"]

_SHORT = 16
_NOTICE = select.EPOLLPRI | select.EPOLLERR
"""How sysfs reports that an attribute has changed (the kernel's sysfs_notify), until it is read again."""


async def until_undervoltage(files: HostFiles) -> None:
    """Returns when the alarm is or was set; never on kernels without notifications.

    Opens and reads one file of sysfs, which costs no I/O. OSError: it cannot be read. A cancellation leaves nothing.
    """
    place = undervoltage_alarm(files)
    if place is None:
        await trio.sleep_forever()
    with files.path(place).open("rb", buffering=0) as file, select.epoll(1) as notices:
        if file.read(_SHORT).strip() == b"1":  # from here on changes are reported
            return
        try:
            notices.register(file.fileno(), _NOTICE)
        except PermissionError:  # a file without notifications
            await trio.sleep_forever()
        # trio waits for the epoll object to be readable, which it is when one of its files has changed.
        await trio.lowlevel.wait_readable(notices.fileno())
