"""A note beside a storage that a write has begun and not ended.

It is on disk before the first byte of the image is, and goes after the last one is verified, so an exporter
that is killed or loses power in between finds it at the next start.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Mark"]


@dataclass(frozen=True)
class Mark:
    """The note is the file `path`; its text is the reason. All methods block and raise OSError."""

    path: Path

    def read(self) -> str | None:
        """Why the storage is incomplete; None when it is not."""
        try:
            return self.path.read_text(encoding="utf-8").strip() or "a write was not finished"
        except FileNotFoundError:
            return None

    def write(self, reason: str) -> None:
        """Leave the note, surviving a power cut from here on."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("w", encoding="utf-8") as file:
            file.write(reason + "\n")
            file.flush()
            os.fsync(file.fileno())
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def remove(self) -> None:
        """Take the note away, if there is one."""
        self.path.unlink(missing_ok=True)
