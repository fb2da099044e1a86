"""A folder for the sockets of a user who has no runtime directory, as in a container or after `su`."""

from __future__ import annotations

import os
import stat

__all__ = ["is_private", "temporary_runtime_folder"]

PLACE = "/tmp"  # noqa: S108 - not $TMPDIR, which may differ between the programs that meet here


def temporary_runtime_folder() -> str:
    """Return its path. Anybody could have made a folder of this name first, so use it only if it `is_private`."""
    return f"{PLACE}/jumpstarter-{os.geteuid()}"


def is_private(folder: str) -> bool:
    """Whether it is a folder, and not a link, of this user, and nobody else may use it."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
