"""How many connections this process can have: each is an open file, of which it may have a limited number."""

from __future__ import annotations

import resource
from contextlib import suppress

__all__ = ["connections_allowed"]

OTHER_FILES = 128
"""For everything else: the store, the listeners, devices."""
MIN_CONNECTIONS = 64


def connections_allowed(wanted: int) -> int:
    """Raise the process's own limit as far as the system lets it, and return how many of `wanted` connections fit.

    The usual limit, 1,024 files, is for programs that use select().
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # "unlimited" may be more than the kernel gives to anybody
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(MIN_CONNECTIONS, min(wanted, soft - OTHER_FILES))
