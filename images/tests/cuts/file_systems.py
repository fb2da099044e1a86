"""Check a disk with the tools of its file systems, and read its files.

The data partition is treated as the initial file system treats it (`images/rootfs/etc/initramfs-tools`), then checked
as a whole, then mounted by a loop device. Where the kernel refuses that, debugfs copies the files out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Checked", "check_ext4", "check_fat", "fat_file", "files_of", "may_mount"]

SECONDS = 120
OVERLAYS = ("etc", "var", "home", "root")


@dataclass
class Checked:
    """The result of a check."""

    faults: list[str] = field(default_factory=list)
    """Faults that a power cut must not cause."""
    mended: list[str] = field(default_factory=list)
    """Damage that a power cut may cause, and that the tool repaired without asking; one line each."""


def run(*command: str | os.PathLike[str]) -> subprocess.CompletedProcess[str]:
    """A program to its end, with both kinds of output in one."""
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        [os.fspath(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=SECONDS,
        env=environment | {"MTOOLS_SKIP_CHECK": "1"},
    )


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return " / ".join(line.strip() for line in done.stdout.splitlines() if line.strip())[-600:]


def check_ext4(file: Path) -> Checked:
    """Repair an ext4 file system as the host does at its boot. Changes the file."""
    checked = Checked()
    done = run("e2fsck", "-p", file)
    if done.returncode >= 4:
        checked.mended.append(f"e2fsck -p ends with {done.returncode}, and -y is asked")
        done = run("e2fsck", "-y", file)
        if done.returncode >= 4:
            checked.faults.append(f"e2fsck -y ends with {done.returncode}: {_said(done)}")
    elif done.returncode:
        checked.mended.append(_said(done))
    done = run("e2fsck", "-f", "-n", file)
    if done.returncode:
        checked.faults.append(f"e2fsck -fn ends with {done.returncode} after that: {_said(done)}")
    return checked


_HARMLESS = (
    "fsck.fat ",
    "0x25: Dirty bit is set.",
    "Automatically removing dirty bit.",
    "There are differences between boot sector and its backup.",
    "This is mostly harmless. Differences:",
    "65:01/00",
    "Not automatically fixing this.",
    "Automatically fixing",
    "*** Filesystem was changed ***",
    "Writing changes.",
)


def check_fat(file: Path) -> Checked:
    """Repair a FAT file system with `fsck.vfat -a`, after which it must have no fault. Changes the file."""
    checked = Checked()
    done = run("fsck.vfat", "-a", file)
    if done.returncode > 1:
        checked.faults.append(f"fsck.vfat -a ends with {done.returncode}: {_said(done)}")
    for line in map(str.strip, done.stdout.splitlines()):
        if line and not line.startswith(_HARMLESS) and " files, " not in line:
            checked.mended.append(line)
    done = run("fsck.vfat", "-n", file)
    if done.returncode:
        checked.faults.append(f"fsck.vfat -n ends with {done.returncode} after that: {_said(done)}")
    return checked


def fat_file(file: Path, name: str) -> bytes | str:
    """Read a file of a FAT file system's top folder with mtools; returns their error if it fails."""
    environment = os.environ | {"MTOOLS_SKIP_CHECK": "1"}
    done = subprocess.run(
        ["mtype", "-i", str(file), f"::{name}"],
        capture_output=True,
        check=False,
        timeout=SECONDS,
        env=environment,
    )
    if done.returncode or done.stderr:
        return done.stderr.decode(errors="replace").strip() or f"mtype ends with {done.returncode}"
    return done.stdout


def may_mount(folder: Path) -> str:
    """Why the kernel cannot mount a file here; empty if it can."""
    file = folder / "trial.img"
    with file.open("wb") as stream:
        stream.truncate(1 << 20)
    done = run("mke2fs", "-q", "-t", "ext4", file)
    if done.returncode:
        return _said(done)
    point = folder / "trial"
    point.mkdir(exist_ok=True)
    done = run("mount", "-o", "loop", file, point)
    if done.returncode:
        return _said(done)
    run("umount", point)
    return ""


class StillMountedError(Exception):
    """A disk stays mounted, so it cannot be overwritten. This is not a fault of the disk."""


def _unmount(point: Path) -> None:
    """Other threads' children have our open files for a moment, between fork and exec."""
    end = time.monotonic() + SECONDS
    while (done := run("umount", point)).returncode:
        if time.monotonic() > end:
            raise StillMountedError(f"{point} cannot be unmounted: {_said(done)}")
        time.sleep(0.05)


@contextmanager
def files_of(file: Path, folder: Path, *, mount: bool) -> Iterator[Path]:
    """The files of the data partition in a folder, mounted as on the host, or copied.

    Raises:
        OSError: it cannot be mounted or read.
        StillMountedError: it cannot be unmounted.
    """
    point = folder / "files"
    if not mount:
        shutil.rmtree(point, ignore_errors=True)
        point.mkdir()
        for name in OVERLAYS:
            (point / "overlay" / name).mkdir(parents=True)
            run("debugfs", "-R", f"rdump /overlay/{name}/upper {point}/overlay/{name}", file)
        run("debugfs", "-R", f"rdump /bait {point}", file)
        yield point
        return
    point.mkdir(exist_ok=True)
    done = run("mount", "-t", "ext4", "-o", "loop,noatime,errors=remount-ro", file, point)
    if done.returncode:
        raise OSError(f"the data partition cannot be mounted: {_said(done)}")
    try:
        yield point
    finally:
        _unmount(point)
