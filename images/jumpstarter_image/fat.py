"""Write on the FAT partition: existing files are changed in place, and only where they differ."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from jumpstarter_image.retirement import Write

__all__ = ["STATUS_BYTES", "change_in_place", "write_padded"]

STATUS_BYTES = 8192
"""The constant length of the status file, so that its clusters are allocated once."""


def change_in_place(path: Path, before: bytes, writes: Iterable[Write]) -> bytes:
    """Do the writes in order, and flush each to the disk before the next. Returns the new content. Raises OSError.

    If the file has changed since it was read, nothing is written: somebody has saved it, and it will be read again.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    content = bytearray(before)
    try:
        if os.pread(descriptor, len(before) + 1, 0) != before:
            return before
        for write in writes:
            content[write.offset : write.offset + len(write.data)] = write.data
            os.pwrite(descriptor, write.data, write.offset)
            os.fsync(descriptor)
        return bytes(content)
    finally:
        os.close(descriptor)


def write_padded(path: Path, data: bytes) -> bool:
    """Write these bytes, padded with blank lines to `STATUS_BYTES`. Returns whether the file has changed.

    Raises OSError.

    Text that does not fit is left out.
    """
    padded = data[:STATUS_BYTES] + b"\r\n" * ((STATUS_BYTES - len(data)) // 2)
    padded = padded.ljust(STATUS_BYTES)
    try:
        is_new, before = False, path.read_bytes()
    except FileNotFoundError:
        is_new, before = True, b""
    if before == padded:
        return False
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.pwrite(descriptor, padded, 0)
        if len(before) > STATUS_BYTES:
            os.ftruncate(descriptor, STATUS_BYTES)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if is_new:
        _sync_folder(path.parent)
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
