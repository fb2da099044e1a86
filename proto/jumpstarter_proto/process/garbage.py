"""Garbage collection in a process that lasts."""

from __future__ import annotations

import ctypes
import gc
import linecache
import sys

__all__ = ["keep_what_is_there"]


def keep_what_is_there() -> None:
    """Exclude all present objects from garbage collection, which would block the event loop again and again.

    For a daemon, when it has started and before it serves. What only its start has needed goes: the sources of methods
    that attrs has generated, the names of all files in the folders from which modules came, and the pages that the
    allocator has over from reading modules.
    """
    linecache.clearcache()
    sys.path_importer_cache.clear()  # the next import from a folder looks into it again
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only the GNU C library has it
    if trim is not None:
        trim(0)
