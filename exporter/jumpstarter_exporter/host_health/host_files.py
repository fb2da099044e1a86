"""Reads small files of a host below a root folder: never much of one, and none that is a device. Blocking."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["HostFiles"]

MAX_BYTES = 256 * 1024
MAX_ENTRIES = 4096
"""Of a folder that is looked through."""


class HostFiles:
    """The files of the host whose `sys`, `proc`, `etc`, … are in a folder."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def path(self, place: str) -> Path:
        """Where an absolute path of the host is."""
        return Path(f"{str(self.root).rstrip('/')}/{place.lstrip('/')}")

    def read(self, place: str, most: int = MAX_BYTES) -> bytes:
        """The start of a regular file. OSError: it cannot be read, or is none: devices are never opened."""
        path = self.path(place)
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(22, "is no regular file", str(path))
        with path.open("rb", buffering=0) as file:
            return file.read(most)

    def text(self, place: str) -> str:
        """The same as text. OSError."""
        return self.read(place).decode(errors="replace")

    def find_text(self, place: str) -> str | None:
        """The same, without blanks around it; None if it cannot be read."""
        try:
            return self.text(place).strip().strip("\0")
        except OSError:
            return None

    def number(self, place: str, base: int = 10) -> int | None:
        """A file with one number in it; None if there is none."""
        text = self.find_text(place)
        try:
            return None if text is None else int(text, base)
        except ValueError:
            return None

    def names(self, place: str) -> list[str]:
        """What is in a folder, sorted; nothing of one that cannot be read."""
        try:
            with os.scandir(self.path(place)) as entries:
                found = [entry.name for entry, _ in zip(entries, range(MAX_ENTRIES), strict=False)]
        except OSError:
            return []
        return sorted(found)

    def exists(self, place: str) -> bool:
        """Whether there is something of that name that can be seen."""
        return os.path.lexists(self.path(place))
