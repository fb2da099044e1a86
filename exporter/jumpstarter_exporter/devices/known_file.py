"""Stores the discovered devices in the state directory, in a file for its owner only."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
from jumpstarter_proto.json_texts import decode_json
from jumpstarter_proto.private_files import PrivateFileError, set_aside, write_private
from jumpstarter_proto.regular_files import open_regular

from jumpstarter_exporter.devices.known import KnownRecords

__all__ = ["KnownFile"]

MAX_BYTES = 16 * 1024 * 1024
_log = logging.getLogger(__name__)


class KnownFile:
    """`discovered.json` of a state directory. Blocking, for some milliseconds."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "discovered.json"
        self._written: KnownRecords | None = None
        self._is_readable = True
        self._is_failing = False

    def read(self) -> KnownRecords:
        """What was written last. A damaged file is set aside with a warning; devices get new names then."""
        try:
            with open_regular(self._path) as file:
                self._written = decode_json(file.read(MAX_BYTES), KnownRecords)
        except FileNotFoundError:
            return KnownRecords()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            self._set_aside(why or type(error).__name__)
            return KnownRecords()
        return self._written

    def _set_aside(self, why: str) -> None:
        try:
            aside = set_aside(self._path)
        except OSError as error:
            self._is_readable = False
            _log.warning(
                "%s cannot be used (%s) and cannot be set aside (%s): the devices of this host get new names and "
                "UUIDs at each start; make it readable, or remove it",
                self._path,
                why,
                error.strerror,
            )
        else:
            _log.warning(
                "%s cannot be used: %s; the devices of this host may get other names and UUIDs, and what it was "
                "is in %s",
                self._path,
                why,
                aside.name,
            )

    def write(self, known: KnownRecords) -> None:
        """Write to the disk. If this fails, there is one warning, and the exporter continues.

        A file that could not be read is never overwritten. If it would exceed `MAX_BYTES`, the devices that were not
        seen for the longest time are left out.
        """
        if known == self._written or not self._is_readable:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(self._path, _fitting(known))
        except (OSError, PrivateFileError) as error:
            if not self._is_failing:
                reason = error.strerror if isinstance(error, OSError) else str(error).partition(";")[0]
                _log.warning(
                    "the names of this host's devices cannot be kept in %s: %s; make the folder writable, or set "
                    "JUMPSTARTER_STATE_DIRECTORY",
                    self._path.parent,
                    reason,
                )
            self._is_failing = True
        else:
            self._written = known
            self._is_failing = False


def _fitting(known: KnownRecords) -> bytes:
    """Shorten what is too long: devices can give themselves long names."""
    data = msgspec.json.encode(known)
    while len(data) > MAX_BYTES and known.devices:
        known = msgspec.structs.replace(known, devices=known.devices[(len(known.devices) + 1) // 2 :])
        data = msgspec.json.encode(known)
    return data
