"""A program that locks a file, like another exporter or a terminal program."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["holding"]

HOLD = """
import fcntl, os, sys
held = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_NOCTTY)
fcntl.flock(held, fcntl.LOCK_EX)
print(flush=True)
input()
"""


@contextmanager
def holding(file: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """It has the file locked at the begin of the block, until it hears something, or is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        try:
            yield other
        finally:
            other.kill()
