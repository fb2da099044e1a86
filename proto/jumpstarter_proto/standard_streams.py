"""A program's standard streams when its caller closed them, or when what reads them is full or gone."""

from __future__ import annotations

import errno
import os
import sys

__all__ = ["drop_output", "open_missing_streams", "output_fault"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF, errno.EFBIG}


def open_missing_streams() -> None:
    """Open what the caller closed on the null device: Python leaves None, and the next file would get its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115 - for the process's life


def drop_output() -> None:
    """Write no more: what is still buffered must not fail once more when the interpreter flushes it at its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def output_fault(error: OSError) -> str | None:
    """The sentence for an error of standard output, which is dropped from now on; None if it is another error."""
    if error.filename is not None or error.errno not in _FULL:
        return None
    drop_output()
    return f"the output cannot be written: {error.strerror}; free space where it goes, or send it elsewhere"
