"""Store the settings in a file that only root can read. It is on the disk before anything depends on it."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import stat
from pathlib import Path

import msgspec
from jumpstarter_proto.json_texts import decode_json, parse_json
from jumpstarter_proto.private_files import PrivateFileError, read_private, set_aside, write_private

from jumpstarter_image.host_system import HostSystem
from jumpstarter_image.kept import Kept
from jumpstarter_image.plan import files_of

__all__ = ["StateError", "load", "save"]

FILE = "state.json"
MAX_BYTES = 64 * 1024
"""The size limit of the file."""


class StateError(Exception):
    """The settings cannot be read or stored; the message says what to do."""

    def __init__(self, message: str, salvaged: Kept | None = None) -> None:
        """`salvaged` are the settings that could be read nevertheless."""
        super().__init__(message)
        self.salvaged = Kept() if salvaged is None else salvaged


def load(host: HostSystem) -> Kept:
    """Read the stored settings; empty on a new host.

    Raises:
        StateError: the file is invalid, and was moved aside; or it cannot be read.
    """
    path = host.state_folder / FILE
    if not os.path.lexists(path):
        return Kept()
    _close_to_others(path)
    data = b""
    try:
        data = read_private(path)
        kept = decode_json(data, Kept)
        _check(kept)
    except ValueError:
        salvaged = _salvaged(data)
        what = "" if salvaged == Kept() else "what can be read of it is used; "
        try:
            aside = set_aside(path)
        except OSError as error:
            raise StateError(
                f"{path} is damaged, and cannot be moved away: {error.strerror}", salvaged
            ) from None
        raise StateError(
            f"what this host knew was damaged, and is kept as {aside.name}; "
            f"{what}write all keys into jumpstarter.yaml again",
            salvaged,
        ) from None
    except PrivateFileError as error:
        raise StateError(str(error)) from None
    return kept


def _check(kept: Kept) -> None:
    """Raises ValueError if these settings cannot be stored, or the files for other programs not be made of them."""
    msgspec.json.encode(kept)
    if kept.address is not None:
        ipaddress.ip_interface(kept.address.ip)
    files_of(kept, "host")


def _salvaged(data: bytes) -> Kept:
    """Each setting that is valid by itself. Of another version's these may be the network and the SSH keys."""
    kept = Kept()
    try:
        found = parse_json(data)
    except ValueError:
        return kept
    for field in msgspec.structs.fields(Kept):
        if isinstance(found, dict) and field.name in found:
            with contextlib.suppress(ValueError):
                value = msgspec.convert(found[field.name], field.type)
                with_it = msgspec.structs.replace(kept, **{field.name: value})
                _check(with_it)
                kept = with_it
    return kept


def _close_to_others(path: Path) -> None:
    """Take back other users' permissions, such as of a backup that was copied here.

    A refusal would leave the host without its network and its SSH keys, and nobody could log in to change the mode.
    The folder lets only root in.
    """
    with contextlib.suppress(OSError):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
            path.chmod(0o600)


def save(host: HostSystem, kept: Kept) -> None:
    """Store the settings if they have changed. Raises StateError."""
    path = host.state_folder / FILE
    data = msgspec.json.format(msgspec.json.encode(kept)) + b"\n"
    if len(data) > MAX_BYTES:
        raise StateError(
            f"all settings together are longer than {MAX_BYTES // 1024} KiB; make jumpstarter.yaml shorter"
        )
    try:
        host.state_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists() and read_private(path) == data:
            return
        write_private(path, data)
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error.strerror}") from None
    except PrivateFileError as error:
        raise StateError(str(error).rpartition(";")[0]) from None
