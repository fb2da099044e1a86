"""Notes on this machine which leases its running commands use, so that none is released unnoticed.

A note is a file that is locked while the command runs: it means nothing after the command has ended in any way.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from jumpstarter_proto.file_names import safe_name

__all__ = ["is_used_here", "using"]

_log = logging.getLogger(__name__)


@contextmanager
def using(lease: str, environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Note that this process uses a lease, during the block. Without a place for the note, there is none."""
    path = _path(lease, environment)
    descriptor = -1
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        _log.info("the use of lease %s is not noted: %s", lease, error)
    try:
        yield
    finally:
        if descriptor >= 0:
            with suppress(OSError):  # another command uses it, too
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            os.close(descriptor)


def is_used_here(lease: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a running command of this user on this machine uses the lease."""
    try:
        descriptor = os.open(_path(lease, environment), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False


def _path(lease: str, environment: Mapping[str, str]) -> Path:
    base = environment.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(base) / "jumpstarter" / "leases-in-use" / safe_name(lease)
