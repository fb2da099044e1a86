"""What the kernel and fstab say of mounted file systems (proc_pid_mountinfo(5), fstab(5)). No I/O.

The kernel writes blanks, tabs, line ends and backslashes of a name in octal digits, and nothing else: what Python
takes for a blank or a line end besides these may be part of one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

__all__ = ["MOUNTINFO", "Mount", "PlannedMount", "mount_of", "parse_fstab", "parse_mountinfo", "unescaped"]

MOUNTINFO = "proc/self/mountinfo"
"""Below the root. Read it as bytes: a file that is opened as text ends a line at a carriage return, too."""
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A file system at a place."""

    target: str
    device: str
    """Its number, `8:2`; `0:25` is none that has blocks."""
    source: str
    is_read_only: bool
    """The file system itself, whatever it is mounted as: a unit's sandbox mounts nearly all of them read-only."""


@dataclass(frozen=True, slots=True)
class PlannedMount:
    """A line of fstab."""

    source: str
    """`UUID=...`, `LABEL=...`, `PARTUUID=...`, `PARTLABEL=...`, or a node."""
    target: str
    is_read_only: bool = False


def parse_mountinfo(text: str) -> Iterator[Mount]:
    """In the order of the kernel: of two mounts at one place, the later one is on top. Invalid lines are skipped."""
    for line in text.split("\n"):
        before, _, after = line.partition(" - ")
        fields, file_system = before.split(" "), after.split(" ")
        if len(fields) >= 6 and len(file_system) >= 3:
            is_read_only = "ro" in file_system[2].split(",")
            yield Mount(unescaped(fields[4]), fields[2], unescaped(file_system[1]), is_read_only)


def mount_of(mounts: Iterable[Mount], path: str) -> Mount | None:
    """On which an absolute path lies; None if the list does not say."""
    place = PurePosixPath(path)
    found, depth = None, 0
    for mount in mounts:
        point = PurePosixPath(mount.target)
        if len(point.parts) >= depth and place.is_relative_to(point):
            found, depth = mount, len(point.parts)
    return found


def parse_fstab(text: str) -> Iterator[PlannedMount]:
    """What is mounted at a place; swap is not."""
    for line in text.split("\n"):
        fields = re.split(r"[ \t]+", line.strip(" \t\r"))
        if not fields[0].startswith("#") and len(fields) >= 2 and fields[1].startswith("/"):
            options = fields[3].split(",") if len(fields) > 3 else ()
            yield PlannedMount(unescaped(fields[0]), unescaped(fields[1]), "ro" in options)


def unescaped(text: str) -> str:
    """A name as these files write it."""
    return _OCTAL.sub(lambda octal: chr(int(octal[1], 8)), text)
