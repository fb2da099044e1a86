"""Holds a medium, and detects whether another program has written to it.

A block device is opened exclusively (`O_EXCL`): no other program of the host can open it in that way, or mount it.
The kernel gives each medium a number (`diskseq`), with a new one for a card that was changed or a reader that was
plugged in again, and counts all writes to a device. Only the counters of whole disks of this host are used (mmcblk*,
sd*, vd*, with `queue/iostats` on): the data behind a loop or network device can be written in other ways.

A file cannot be opened exclusively. The kernel grants a write lease only while no other program has the file open to
write; after that inotify reports each opening. On a file system without leases there is no evidence.

All functions block until the writes of all programs have reached the device.
"""

from __future__ import annotations

import ctypes
import fcntl
import itertools
import os
import re
import signal
import stat
import struct
from contextlib import suppress
from pathlib import Path

from jumpstarter_drivers.storage.changes.knowledge import WriteEvidence

__all__ = ["MediumHold", "counts_of"]

SYSFS = Path("/sys")
_DISK_NAME = re.compile(r"mmcblk\d+|sd[a-z]+|vd[a-z]+")
_BLKGETDISKSEQ = 0x80081280
"""linux/fs.h; from Linux 5.15 on."""
_COUNTS = (6, 13)
"""Of a disk's `stat`: sectors written, and discarded (Documentation/block/stat.rst). A flush is a write of none."""
_IN_MODIFY = 0x2
_IN_OPEN = 0x20
"""inotify(7). A file is cut or made longer without being opened, too."""
_EVENT = struct.Struct("=iIII")
_EVENTS_BYTES = 4096

_numbers = itertools.count(1)


class MediumHold:
    """One hold of an open device or file; `fd` stays the caller's, and open until `release`."""

    def __init__(self, fd: int, path: Path) -> None:
        self._fd = fd
        self._number = next(_numbers)
        self._watch = -1
        self._is_alone = True
        facts = os.fstat(fd)
        self._counts: Path | None = None
        if stat.S_ISREG(facts.st_mode):
            self._watch = _watch(path)
            self._is_alone = self._watch >= 0 and _has_no_other_writer(fd)
        else:
            self._counts = counts_of(facts.st_rdev) if stat.S_ISBLK(facts.st_mode) else None
            self._is_alone = self._counts is not None

    def evidence(self, *, after_own_writes: bool) -> WriteEvidence | None:
        """Return what stays equal as long as nobody else writes; None if that cannot be known.

        `after_own_writes`: we have written since the last time.
        """
        try:
            if self._counts is not None:
                os.fsync(self._fd)  # what others have written counts only once it is on the device
                (medium,) = struct.unpack("=Q", fcntl.ioctl(self._fd, _BLKGETDISKSEQ, bytes(8)))
                fields = self._counts.read_text(encoding="ascii").split()
                return WriteEvidence(self._number, medium, tuple(int(fields[place]) for place in _COUNTS))
            self._is_alone = self._is_alone and not _was_used(self._watch, after_own_writes)
        except (OSError, ValueError, IndexError):
            return None
        return WriteEvidence(self._number, 0, ()) if self._is_alone else None

    def release(self) -> None:
        """Hold it no more."""
        self._is_alone = False
        watch, self._watch = self._watch, -1
        if watch >= 0:
            os.close(watch)


def counts_of(number: int) -> Path | None:
    """The counters of a whole disk of this host; None where they do not count all writes."""
    disk = Path(f"{SYSFS}/dev/block/{os.major(number)}:{os.minor(number)}")
    try:
        if not _DISK_NAME.fullmatch(disk.resolve(strict=True).name) or (disk / "partition").exists():
            return None
        counts_writes = (disk / "queue" / "iostats").read_text(encoding="ascii").strip() == "1"
    except (OSError, ValueError):
        return None
    return disk / "stat" if counts_writes else None


def _watch(path: Path) -> int:
    """Return an inotify descriptor for openings of the file; -1 on failure."""
    libc = ctypes.CDLL(None, use_errno=True)
    watch: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if watch >= 0 and libc.inotify_add_watch(watch, os.fsencode(path), _IN_OPEN | _IN_MODIFY) < 0:
        os.close(watch)
        return -1
    return watch


def _was_used(watch: int, is_ours: bool) -> bool:
    """Whether there was any event, apart from changes if they are ours. That events were lost is one, too."""
    found = 0
    with suppress(BlockingIOError):
        while data := os.read(watch, _EVENTS_BYTES):
            place = 0
            while place < len(data):
                _, mask, _, name_length = _EVENT.unpack_from(data, place)
                found |= mask
                place += _EVENT.size + name_length
    return bool(found & ~_IN_MODIFY if is_ours else found)


def _has_no_other_writer(fd: int) -> bool:
    """fcntl(2): a lease for writing is refused while another description of the file is open to write."""
    try:
        # Somebody who opens the file in this moment waits for us; the signal that says so is one that does nothing.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:
        return False
    with suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True
