"""Temporary folders that a killed process does not leave behind for ever: whoever makes the next one removes it.

In each lies a file that its owner holds locked; the kernel lets go of the lock when the owner ends, however it ends. A
folder is removed only if it is the same user's, has that file, and nobody holds it. No folder is for secrets: it may
stay on the disk for as long as nothing of ours is started.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType

__all__ = ["RunFolder", "sweep"]

PREFIX = "jumpstarter-"
"""Of all of them."""
OWNER = ".owner"

_log = logging.getLogger(__name__)
_swept: set[str] = set()
"""Places that this process has looked at."""


class RunFolder:
    """A new private folder, which is removed with all that is in it by `remove`, or by whoever makes the next one.

    Blocking, like all that it does. OSError if it cannot be made.
    """

    def __init__(self, prefix: str, place: str | None = None) -> None:
        """A `prefix` of "jumpstarter-…" is found again. Without a `place` it is where temporary files are."""
        place = place or tempfile.gettempdir()
        if place not in _swept:
            sweep(place)
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        try:
            self._owner = _own(self.path)
        except BaseException:
            _remove(self.path)
            raise

    def remove(self) -> None:
        """Remove it, once; what cannot be removed stays for the next one."""
        if self._owner < 0:
            return
        descriptor, self._owner = self._owner, -1
        _remove(self.path)
        os.close(descriptor)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def _remove(folder: Path) -> None:
    """As much of it as can be, and last of all what says whose it is: whoever is killed here is followed by others."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.name != OWNER:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        (folder / OWNER).unlink(missing_ok=True)
        folder.rmdir()


def _own(folder: Path) -> int:
    """A descriptor that holds the lock. The file has its name only when it is locked: nobody sees it without."""
    new = folder / f"{OWNER}.new"
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        new.rename(folder / OWNER)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def sweep(place: str | None = None) -> int:
    """Remove the folders there whose owners have ended; how many there were.

    What cannot be looked at or removed is left: it is somebody else's, or somebody removes it in this moment.
    """
    count = 0
    # Not tempfile's: a daemon does this at its start, and would keep that module, and on Debian shutil with it.
    place = place or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - where others have left theirs
    _swept.add(place)  # a daemon does it in a thread at its start, and not again where its event loop waits
    with suppress(OSError), os.scandir(place) as found:
        for entry in found:
            if entry.name.startswith(PREFIX):
                with suppress(OSError):
                    count += _remove_if_left(Path(entry.path))
    if count:
        _log.info("removed %d temporary folders of processes that were killed", count)
    return count


def _remove_if_left(folder: Path) -> bool:
    status = folder.lstat()
    if (
        not stat.S_ISDIR(status.st_mode)
        or status.st_uid != os.geteuid()
        or stat.S_IMODE(status.st_mode) & 0o077
    ):
        return False
    descriptor = os.open(folder / OWNER, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError: its owner lives
        _remove(folder)
        return not folder.exists()
    finally:
        os.close(descriptor)
