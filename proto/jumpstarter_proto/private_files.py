"""Files with secrets: readable by their owner only, and whole or not there."""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import stat
from pathlib import Path

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.regular_files import open_regular

__all__ = [
    "MAX_FILE_BYTES",
    "PrivateFileError",
    "create_private",
    "read_private",
    "set_aside",
    "sync_folder",
    "write_private",
]

MAX_FILE_BYTES = 64 * 1024


class PrivateFileError(JumpstarterError):
    """A file with a secret cannot be used."""

    exit_code = ExitCode.USAGE


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read.

    After a crash there is either the old or the complete new file.

    A replaced file keeps its owner, if this process may set it. A new one that root writes into a private folder of
    another user belongs to that user, whose service has to read it.

    Raises:
        PrivateFileError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                _keep_owner(path, descriptor)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            sync_folder(path.parent)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise PrivateFileError(f"{path} cannot be written: {error.strerror}; choose another place") from None


def create_private(path: Path) -> None:
    """Create an empty file that only the owner of its folder can read, also if root runs this; or leave it as it is.

    Raises:
        OSError: it cannot be created.
    """
    try:
        descriptor = os.open(os.path.realpath(path), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        if os.geteuid() == 0:
            folder = path.parent.stat()
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """So that a power cut does not take back the file's new name."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of a file system that has no such thing
            raise
    finally:
        os.close(descriptor)


def _keep_owner(path: Path, descriptor: int) -> None:
    """As root, so that the service whose configuration it is can still read it."""
    if os.geteuid() == 0:
        try:
            before = path.lstat()
        except FileNotFoundError:
            before = path.parent.stat()
            if before.st_mode & 0o077:  # others use that folder, too
                return
        os.fchown(descriptor, before.st_uid, before.st_gid)


def set_aside(path: Path) -> Path:
    """Keep what cannot be read as `NAME.broken`, or `NAME.broken-2` and so on, and say where. OSError if not."""
    for number in itertools.count(1):
        aside = path.with_suffix(".broken" if number == 1 else f".broken-{number}")
        if not os.path.lexists(aside):
            break
    path.replace(aside)
    return aside


def read_private(path: Path, at_most: int = MAX_FILE_BYTES) -> bytes:
    """Read a file that only its owner can read. PrivateFileError: others can read it, or it cannot be read."""
    try:
        with open_regular(path) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise PrivateFileError(f"{path} can be read by others (mode {mode:o}); run: chmod 600 {path}")
            data = file.read(at_most + 1)
    except OSError as error:
        raise PrivateFileError(f"{path} cannot be read: {error.strerror}{_cure(error)}") from None
    if len(data) > at_most:
        raise PrivateFileError(
            f"{path} has more than {at_most // 1024} KiB, so Jumpstarter did not write it; look at what wrote it"
        )
    return data


def _cure(error: OSError) -> str:
    return "; let this user read it, or run this as its owner" if isinstance(error, PermissionError) else ""
