"""Reads the files of a disk that `promises` judges."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cuts.disks import Rebuilt
from cuts.file_systems import fat_file
from cuts.promises import Found
from cuts.story import Story

__all__ = ["bait_faults", "empty_files", "read_data", "read_fat"]

SITE, STATUS = "jumpstarter.yaml", "jumpstarter-status.txt"
_LARGEST = 1 << 20
BAIT = "bait"
RENAMED, NEW, SYNCED = "renamed", "new", "synced"
BAIT_TEXT = b"after\n"


def read_fat(rebuilt: Rebuilt) -> Found:
    """What is on the FAT partition, and the table."""
    status = fat_file(rebuilt.fat, STATUS)
    is_missing = isinstance(status, str) and "not found" in status
    return Found(rebuilt.table, fat_file(rebuilt.fat, SITE), None if is_missing else status)


def read_data(files: Path, found: Found, story: Story) -> None:
    """Add what is on the data partition, mounted or copied."""
    upper = files / "overlay/etc/upper"
    found.machine_id = _read(upper / "machine-id")
    found.host_keys = {
        path.name: _read(path) or b"" for path in sorted((upper / "ssh").glob("ssh_host_*_key*"))
    }
    library = files / "overlay/var/upper/lib"
    found.state = {
        str(path.relative_to(library)): _read(path) or b""
        for name in ("jumpstarter", "jumpstarter-image")
        for path in _regular(library / name)
        if "recordings" not in path.parts
    }
    found.is_read = True
    known = set(story.empty)
    found.emptied = tuple(path for path in empty_files(files) if path not in known)


def empty_files(files: Path) -> list[str]:
    """Files without a byte, by their paths on the partition."""
    return sorted(
        str(path.relative_to(files)) for path in _regular(files / "overlay") if path.stat().st_size == 0
    )


def bait_faults(files: Path, *, is_promised: bool) -> tuple[list[str], list[str]]:
    """What became of files that programs have renamed: without fsync, faults that there have to be; with it, others.

    ``is_promised``: the programs had ended before the power failed.
    """
    if not is_promised:
        return [], []
    caught = [
        f"{name} has not what was written"
        for name in (RENAMED, NEW)
        if _read(files / BAIT / name) != BAIT_TEXT
    ]
    kept = _read(files / BAIT / SYNCED) == BAIT_TEXT
    return caught, [] if kept else [f"{SYNCED}, written with fsync, has not what was written"]


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _regular(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                yield path
