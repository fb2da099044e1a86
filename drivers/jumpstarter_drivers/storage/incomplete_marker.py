"""The marker file of a storage that holds a part of an image.

It is written to disk before the first byte of the image, and removed after the last byte is verified. An exporter that
was killed or lost power in between finds it at its next start.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from jumpstarter_exporter.paths import state_directory
from jumpstarter_proto.file_names import safe_name, user_path

__all__ = ["IncompleteMarker", "marker_in_state_folder"]


@dataclass(frozen=True)
class IncompleteMarker:
    """The marker is the file `path`; its text is the reason. All methods block and raise OSError."""

    path: Path
    former: Path | None = None
    """Where a version before this one has put it; read and removed, never written."""

    def read(self) -> str | None:
        """Return why the storage is incomplete, or None if there is no marker."""
        for path in self._paths:
            try:
                return path.read_text(encoding="utf-8").strip() or "a write was not finished"
            except FileNotFoundError:
                continue
        return None

    @property
    def _paths(self) -> list[Path]:
        return [self.path] if self.former in (None, self.path) else [self.path, self.former]

    def write(self, reason: str) -> None:
        """Write the marker. When this returns, it survives a power cut."""
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
        """Remove the marker, if there is one."""
        for path in self._paths:
            path.unlink(missing_ok=True)


def marker_in_state_folder(name: str, folder: str | None = None) -> IncompleteMarker:
    """The marker of a device, in `folder`, else in the exporter's state directory."""
    if folder:
        return IncompleteMarker(user_path(folder) / safe_name(name, ".incomplete"))
    before = Path.home() / ".local" / "state" / "jumpstarter"
    return IncompleteMarker(
        state_directory(os.environ) / safe_name(name, ".incomplete"), before / safe_name(name, ".incomplete")
    )
