"""Ports that stay open while this process is started again: the descriptor store of systemd, FDSTORE of sd_notify(3).

systemd has a copy of each descriptor, so a port is not closed when its process dies: DTR stays set, and a board that is
reset by DTR keeps running. The next process is started with the copies.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
import termios
import threading
from collections.abc import Mapping
from contextlib import suppress

import trio

from jumpstarter_proto.process.descriptor_table import DescriptorTable, name_of
from jumpstarter_proto.process.service_manager import ServiceManager

__all__ = ["CLAIM_SECONDS", "DescriptorStore"]

CLAIM_SECONDS = 30.0
"""A descriptor that was not taken by then is closed, because its board does not exist any more."""

_log = logging.getLogger(__name__)


class DescriptorStore:
    """The ports of this process; may be used from any thread. Without a service manager it does nothing.

    Only terminals are kept. While one is kept, its lock (flock) is held, also when no process of ours runs.
    """

    def __init__(
        self, manager: ServiceManager | None = None, inherited: Mapping[str, int] | None = None
    ) -> None:
        """`inherited` are descriptors that the process before has stored, by their names; they are this one's now."""
        self._manager = manager
        self._table = DescriptorTable()
        self._lock = threading.Lock()
        self._is_held = False
        for name, descriptor in (inherited or {}).items():
            device = _device(descriptor)
            if device is None or not self._table.offer(name, descriptor, device):
                _log.warning(
                    "the port %s, which systemd has kept, is gone; it is opened again when it is back", name
                )
                self._discard(name, descriptor)

    def has(self, path: str) -> bool:
        """Whether `take` would find the port at that path."""
        return (device := _device_at(path)) is not None and self._table.is_unclaimed(device)

    def take(self, path: str) -> int | None:
        """Return the stored descriptor of the port at a path; None if there is none, or it is in use.

        It is the same device: see `descriptor_table`. The caller calls `release` before closing it.
        """
        device = _device_at(path)
        if device is None:
            return None
        with self._lock:
            descriptor = self._table.claim(device)
        if descriptor is not None and _device(descriptor) != device:  # hung up meanwhile
            self.release(descriptor)
            os.close(descriptor)
            return None
        return descriptor

    def keep(self, descriptor: int) -> None:
        """Have a port that was opened kept from now on. May block for a second."""
        device = _device(descriptor)
        if self._manager is None or device is None:
            return
        with self._lock:
            was_there = name_of(device) in self._table
            name, unused = self._table.add(descriptor, device)
            if unused is not None:
                os.close(unused)
            if was_there:
                self._manager.forget(name)
            if not self._manager.store(name, descriptor):
                self._table.remove(descriptor)

    def hold(self) -> None:
        """The process is about to end: what is closed from now on is kept for the next one."""
        self._is_held = True

    def release(self, descriptor: int) -> None:
        """Remove a descriptor that its user is about to close, unless the process ends. May block for a second."""
        with self._lock:
            name = self._table.remove(descriptor)
            if name is None:
                return
            device = _device(descriptor)
            if self._is_held and device is not None:
                # Until the process ends somebody may want it again.
                with suppress(OSError):
                    self._table.offer(name, os.dup(descriptor), device)
                return
            self._forget(name, descriptor)

    async def run(self) -> None:
        """Close descriptors that were not taken within `CLAIM_SECONDS` after this call."""
        await trio.sleep(CLAIM_SECONDS)
        with self._lock:
            unclaimed = {} if self._is_held else self._table.take_unclaimed()
        for name, descriptor in unclaimed.items():
            _log.warning(
                "%s was open before this start and is not any board's now: it is closed", _node(descriptor)
            )
            await trio.to_thread.run_sync(self._discard, name, descriptor)

    def _discard(self, name: str, descriptor: int) -> None:
        self._forget(name, descriptor)
        with suppress(termios.error):
            termios.tcflush(
                descriptor, termios.TCOFLUSH
            )  # else closing waits for an end that does not take it
        os.close(descriptor)

    def _forget(self, name: str, descriptor: int) -> None:
        # The lock is that of all copies, and systemd closes its own in its own time.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        if self._manager is not None:
            self._manager.forget(name)


def _device_at(path: str) -> int | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_rdev if stat.S_ISCHR(found.st_mode) else None


def _device(descriptor: int) -> int | None:
    """The number of the terminal's device; None for what is no terminal, or was hung up, as when it was unplugged."""
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISCHR(found.st_mode):
            return None
        termios.tcgetattr(descriptor)
    except (OSError, termios.error):
        return None
    return found.st_rdev


def _node(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return f"descriptor {descriptor}"
