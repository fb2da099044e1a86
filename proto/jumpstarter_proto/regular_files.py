"""Opening files that anybody may have put there: what is no file is an error at once, and nobody waits for it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

__all__ = ["open_input", "open_regular"]

_NO_FILE = "it is a pipe, a socket or a device, not a file"


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading. OSError if it cannot be, or is a pipe, on which we would wait for ever."""
    return _opened(path, with_unnamed_pipes=False)


def open_input(path: Path) -> BinaryIO:
    """As `open_regular`, but a shell's `<(...)` is read, too: it has a writer from the start, and ends with that."""
    return _opened(path, with_unnamed_pipes=True)


def _opened(path: Path, *, with_unnamed_pipes: bool) -> BinaryIO:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _check(path, descriptor, with_unnamed_pipes=with_unnamed_pipes)
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _check(path: Path, descriptor: int, *, with_unnamed_pipes: bool) -> None:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode) and not (with_unnamed_pipes and _is_unnamed_pipe(descriptor)):
        raise OSError(errno.EINVAL, _NO_FILE, str(path))


def _is_unnamed_pipe(descriptor: int) -> bool:
    return os.readlink(f"/proc/self/fd/{descriptor}").startswith("pipe:")
