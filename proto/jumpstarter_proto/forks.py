"""What the children of this process must not have.

A child that was forked, as by Python's multiprocessing in a driver, has a copy of each descriptor until it ends. Copies
keep locks, ports and connections of an exporter that was killed, so that the next one could not start, and its peers
would wait. Programs that are executed get nothing anyway.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import Protocol
from weakref import WeakSet

__all__ = ["HasDescriptor", "hold_lock", "keep_from_children", "release_lock"]


class HasDescriptor(Protocol):
    """A socket, of Python or of trio."""

    def fileno(self) -> int:
        """Its descriptor; -1 if it is closed."""


_sockets: WeakSet[HasDescriptor] = WeakSet()
_locks: set[int] = set()


def keep_from_children(one: HasDescriptor) -> None:
    """Let no forked child have it."""
    _sockets.add(one)


def hold_lock(descriptor: int) -> None:
    """This process has locked a file. It is to be closed by `release_lock`, and by nothing else."""
    _locks.add(descriptor)


def release_lock(descriptor: int) -> None:
    """Close a file that is, or may be, locked; nobody has the lock then, whoever has a copy of the descriptor."""
    _locks.discard(descriptor)
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _close_in_child() -> None:
    """Put nothing in their places: Python's objects would close what has got their numbers."""
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in {*_locks, *(one.fileno() for one in _sockets)}:
        if descriptor >= 0:
            os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)
    _locks.clear()


os.register_at_fork(after_in_child=_close_in_child)
