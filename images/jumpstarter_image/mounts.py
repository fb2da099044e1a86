"""Which file systems cannot be written, from the kernel's list of mounts (proc_pid_mountinfo(5)).

A unit's sandbox mounts most of the file system read-only, so what a path says of itself (statvfs) says nothing of the
card: the options of the file system behind the mount do.
"""

from __future__ import annotations

import re
from pathlib import PurePath

__all__ = ["is_read_only"]

_OCTAL = re.compile(r"\\([0-7]{3})")


def is_read_only(mountinfo: str, path: PurePath) -> bool:
    """Whether the file system that has this absolute path is read-only; False for a list that is not understood.

    An overlay is never read-only itself: ask for the place where its changes are.
    """
    found = ""
    depth = -1
    for line in mountinfo.splitlines():
        mount, _, file_system = line.partition(" - ")
        fields = mount.split(" ")
        options = file_system.split(" ")
        if len(fields) < 6 or len(options) < 3:
            continue
        point = PurePath(_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4]))
        # Of two at one place the later one lies on top.
        if path.is_relative_to(point) and len(point.parts) >= depth:
            depth = len(point.parts)
            found = options[2]
    return "ro" in found.split(",")
