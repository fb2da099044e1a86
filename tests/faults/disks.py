"""A small file system that can be filled."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

__all__ = ["fill", "fill_with_files", "small_disk"]


@contextmanager
def small_disk(path: Path, *, otherwise: str, mebibytes: int = 4) -> Iterator[Path]:
    """One at `path`, which is made. Without the right to mount, the test is skipped.

    `otherwise` names a test that does without.
    """
    path.mkdir(parents=True)
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,nr_inodes=300,mode=700", "tmpfs", path],
        capture_output=True,
        check=False,
    )
    if mount.returncode:
        pytest.skip(f"only root can mount a small file system here; {otherwise}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def fill(disk: Path) -> Path:
    """Leave no room on it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass
    return filler


def fill_with_files(folder: Path) -> Path:
    """Leave no room for another file on the disk of `folder`, which is made."""
    folder.mkdir()
    with suppress(OSError):
        for number in count():
            (folder / str(number)).touch()
    return folder
