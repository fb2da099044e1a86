"""A small file system that can be filled."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

__all__ = ["card", "fill", "fill_with_files", "small_disk", "turn_read_only"]


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


@contextmanager
def card(path: Path, *, otherwise: str) -> Iterator[Path]:
    """A card at `path`, which turns read-only at its first fault. The same card can be mounted again.

    `otherwise` names a test that does without.
    """
    if os.geteuid():
        pytest.skip(f"only root can mount a card; {otherwise}")
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("missing: mkfs.ext4; install e2fsprogs")
    image = path.with_suffix(".img")
    if not image.exists():
        with image.open("wb") as file:
            file.truncate(32 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    path.mkdir(parents=True, exist_ok=True)
    options = "loop,errors=remount-ro"
    mount = subprocess.run(["mount", "-o", options, image, path], capture_output=True, text=True, check=False)
    if mount.returncode:
        pytest.skip(f"a card cannot be mounted here ({mount.stderr.strip()}); {otherwise}")
    try:
        if not _fault_of(path).exists():
            pytest.skip(f"this kernel has no faults of ext4 to be had; {otherwise}")
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def turn_read_only(card: Path) -> None:
    """Its file system has a fault, as with a card that is worn out: nothing can be written any more."""
    _fault_of(card).write_text("1")


def _fault_of(card: Path) -> Path:
    done = subprocess.run(["findmnt", "-n", "-o", "SOURCE", card], capture_output=True, text=True, check=True)
    return Path("/sys/fs/ext4") / Path(done.stdout.strip()).name / "trigger_fs_error"


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
