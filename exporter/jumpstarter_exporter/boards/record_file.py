"""The record of who uses a board, in the state directory: written before actions, read after a restart."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import msgspec
import trio
from jumpstarter_proto.file_names import safe_name
from jumpstarter_proto.json_texts import decode_json
from jumpstarter_proto.private_files import PrivateFileError, set_aside, write_private
from jumpstarter_proto.regular_files import open_regular

__all__ = ["RecordFile"]

MAX_BYTES = 64 * 1024
_log = logging.getLogger(__name__)


class RecordFile:
    """The record of one configuration file's board."""

    def __init__(self, directory: Path, board: str, file: Path) -> None:
        """`directory` is the state directory."""
        # Two files may use the same board name.
        digest = hashlib.sha256(os.fsencode(file.absolute())).hexdigest()[:8]
        self._path = directory / "occupancy" / safe_name(f"{board}-{digest}", ".json")
        self._is_failing = False

    async def read(self) -> object:
        """The last record; None if there is none. Unreadable content is returned as an invalid record."""
        return await trio.to_thread.run_sync(self._read)

    async def write(self, plain: object) -> None:
        """Write it to the disk. A failure is logged and does not stop anything."""
        await trio.to_thread.run_sync(self._write, plain)

    def _read(self) -> object:
        try:
            with open_regular(self._path) as file:
                return decode_json(file.read(MAX_BYTES), object)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            _log.warning(
                "%s cannot be read (%s): the controller is asked for the board's lease, and it is not known "
                "whether the board was drained%s",
                self._path,
                error.strerror if isinstance(error, OSError) else error,
                self._kept(),
            )
            return {}

    def _kept(self) -> str:
        """Set an unreadable record aside for people before it is overwritten."""
        try:
            return f"; what it was is in {set_aside(self._path).name}"
        except OSError:
            return ""

    def _write(self, plain: object) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(self._path, msgspec.json.encode(plain))
        except (OSError, PrivateFileError) as error:
            if not self._is_failing:
                reason = error.strerror if isinstance(error, OSError) else str(error).partition(";")[0]
                _log.warning(
                    "the board's user cannot be stored in %s: %s; after a restart, a running lease begins again. Make "
                    "room there, or set JUMPSTARTER_STATE_DIRECTORY",
                    self._path.parent,
                    reason,
                )
            self._is_failing = True
        else:
            self._is_failing = False
