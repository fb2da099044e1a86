"""Recordings of what consoles say: bounded, on disk, with times, across sessions and restarts.

`records` is the format, `folder` the files, `recorder` what a driver uses.
"""

from __future__ import annotations

from jumpstarter_exporter.paths import state_directory
from jumpstarter_exporter.recording.folder import Cursor, RecordingFolder, TakenError
from jumpstarter_exporter.recording.recorder import Recorder
from jumpstarter_exporter.recording.records import ConsoleRecord, RecordKind

__all__ = [
    "ConsoleRecord",
    "Cursor",
    "RecordKind",
    "Recorder",
    "RecordingFolder",
    "TakenError",
    "state_directory",
]
