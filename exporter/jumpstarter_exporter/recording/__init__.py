"""Recordings of what consoles say: bounded, on disk, with times, across sessions and restarts.

`records` is the format, `folder` the files, `recorder` what a driver uses, `place` where it all is.
"""

from __future__ import annotations

from jumpstarter_exporter.recording.folder import Cursor, Folder, TakenError
from jumpstarter_exporter.recording.recorder import Recorder
from jumpstarter_exporter.recording.records import Kind, Record
from jumpstarter_exporter.state_directory import state_directory

__all__ = ["Cursor", "Folder", "Kind", "Record", "Recorder", "TakenError", "state_directory"]
