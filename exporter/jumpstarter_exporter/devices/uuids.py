"""The UUIDs of a board's devices: created once and stored in the state directory, whichever process serves the board.

Each board has a file named like the board; a copied configuration with the same name gets another file. Devices that
were removed from a configuration are remembered for a while, so that a device keeps its UUID when it is added again.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
from jumpstarter_proto.file_names import path_text, safe_name
from jumpstarter_proto.json_texts import decode_json
from jumpstarter_proto.private_files import PrivateFileError, set_aside, write_private
from jumpstarter_proto.regular_files import open_regular

__all__ = ["MAX_DEVICES", "device_uuids"]

MAX_DEVICES = 4096
"""Devices that are remembered for one board."""
MAX_FILE_BYTES = 4 * 1024 * 1024

_log = logging.getLogger(__name__)


class _Known(msgspec.Struct):
    uuids: dict[str, UUID]
    """By path."""
    file: str = ""
    """The configuration for which they were created."""

    def __post_init__(self) -> None:
        if len(set(self.uuids.values())) < len(self.uuids):
            raise ValueError("two devices have one UUID")


def device_uuids(
    paths: Collection[str], *, directory: Path, board: str, file: Path | None = None
) -> dict[str, UUID]:
    """One for each path; `file` is the board's configuration. Blocking, for some milliseconds.

    A file that is broken is set aside, and one that cannot be written means new UUIDs at the next start; both are
    warnings. What cannot be read is never written over.
    """
    folder = directory / "devices"
    source = "" if file is None else path_text(file.absolute())
    place, known = _find(folder, board, source)
    if place is None:
        known = _extended(known, paths, source)
    elif not known.uuids.keys() >= set(paths) or known.file != source:
        try:
            with _locked(folder):
                place, known = _find(folder, board, source)
                known = _extended(known, paths, source)
                if place is not None:
                    write_private(place, msgspec.json.encode(known))
        except (OSError, PrivateFileError) as error:
            known = _extended(known, paths, source)
            reason = error.strerror if isinstance(error, OSError) else str(error).partition(";")[0]
            _log.warning(
                "the UUIDs of %s's devices cannot be kept in %s: %s; make the folder writable, or set "
                "JUMPSTARTER_STATE_DIRECTORY",
                board,
                folder,
                reason,
            )
    return {path: known.uuids[path] for path in paths}


def _extended(known: _Known, paths: Collection[str], source: str) -> _Known:
    wanted = {path: known.uuids.get(path) or uuid4() for path in paths}
    others = {path: uuid for path, uuid in known.uuids.items() if path not in wanted}
    room = max(0, MAX_DEVICES - len(wanted))
    return _Known(dict(list(others.items())[-room:] if room else ()) | wanted, source)


def _find(folder: Path, board: str, source: str) -> tuple[Path | None, _Known]:
    """The file of that board, and what is in it; of another name if one of that name is another configuration's.

    None in place of a file that cannot be read, and is not to be written over.
    """
    own = folder / safe_name(f"{board}-{hashlib.sha256(source.encode()).hexdigest()[:8]}", ".json")
    # Path.exists raises if the name is too long, or if the folder may not be searched.
    has_own = os.path.exists(own)  # although the other configuration may be gone meanwhile
    place = own if has_own else folder / safe_name(board, ".json")
    known = _read(place)
    if known is None:
        return None, _Known({})
    if not has_own and known.file not in ("", source) and os.path.exists(known.file):
        place = own
        known = _read(place)
    return (place, known) if known is not None else (None, _Known({}))


def _read(place: Path) -> _Known | None:
    """The file's content; None if it can neither be read nor set aside."""
    try:
        with open_regular(place) as file:
            return decode_json(file.read(MAX_FILE_BYTES), _Known)
    except (FileNotFoundError, NotADirectoryError):
        return _Known({})
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
    except ValueError as error:
        why = f"is damaged ({error})"
    try:
        aside = set_aside(place)
    except FileNotFoundError:  # another process was faster
        return _Known({})
    except OSError as error:
        _log.warning(
            "%s %s; its devices get new UUIDs at each start, as it cannot be set aside: %s; make it readable, or "
            "remove it",
            place,
            why,
            error.strerror,
        )
        return None
    _log.warning("%s %s; its devices get new UUIDs, and the old file is now %s", place, why, aside.name)
    return _Known({})


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the board against other processes that create UUIDs. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
