"""Reads small files of a host below a root folder: bounded, and never a device. Blocking."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["HostFiles"]

MAX_BYTES = 256 * 1024
MAX_NUMBER = 1 << 64
MAX_ENTRIES = 4096
"""Limit for the entries of a folder."""


class HostFiles:
    """The files of the host whose `sys`, `proc`, `etc`, … are in a folder."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def path(self, place: str) -> Path:
        """The path of an absolute path of the host."""
        return Path(f"{str(self.root).rstrip('/')}/{place.lstrip('/')}")

    def read(self, place: str, most: int = MAX_BYTES) -> bytes:
        """The start of a regular file. OSError if it cannot be read, or is not one: devices are never opened."""
        path = self.path(place)
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(22, "is not a regular file", str(path))
        with path.open("rb", buffering=0) as file:
            return file.read(most)

    def text(self, place: str) -> str:
        """The same as text. OSError."""
        return self.read(place).decode(errors="replace")

    def find_text(self, place: str) -> str | None:
        """The same without surrounding blanks; None if it cannot be read."""
        try:
            return self.text(place).strip().strip("\0")
        except OSError:
            return None

    def number(self, place: str, base: int = 10) -> int | None:
        """The number in a file; None if there is none, or one of more than 64 bits, which no file of the kernel has."""
        text = self.find_text(place)
        try:
            number = None if text is None else int(text, base)
        except ValueError:
            return None
        return number if number is not None and abs(number) < MAX_NUMBER else None

    def names(self, place: str) -> list[str]:
        """The sorted entries of a folder; empty if it cannot be read."""
        try:
            with os.scandir(self.path(place)) as entries:
                found = [entry.name for entry, _ in zip(entries, range(MAX_ENTRIES), strict=False)]
        except OSError:
            return []
        return sorted(found)

    def exists(self, place: str) -> bool:
        """Whether the path exists and is visible."""
        return os.path.lexists(self.path(place))
