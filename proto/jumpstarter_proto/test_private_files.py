"""Secrets in files: what the disk does not take is an error, and leaves what was there."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from jumpstarter_proto.private_files import PrivateFileError, read_private, write_private


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    write_private(path, b"old")
    return path


def faults(monkeypatch: pytest.MonkeyPatch, *, of_folder: bool, code: int) -> None:
    """The disk does not take files, or does not take names of them."""
    fsync = os.fsync

    def fault(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) is of_folder:
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fault)


def test_it_is_its_owners_alone_and_the_only_file(secret: Path) -> None:
    write_private(secret, b"new")
    assert read_private(secret) == b"new"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert list(secret.parent.iterdir()) == [secret]


def test_one_that_is_too_large_is_named_and_no_part_of_it_read(secret: Path) -> None:
    write_private(secret, b"x" * 64 * 1024)
    assert len(read_private(secret)) == 64 * 1024
    write_private(secret, b"x" * (64 * 1024 + 1))
    with pytest.raises(PrivateFileError, match="secret has more than 64 KiB"):
        read_private(secret)
    assert len(read_private(secret, at_most=128 * 1024)) == 64 * 1024 + 1


def test_what_the_disk_does_not_take_leaves_what_was_there_and_nothing_else(
    secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults(monkeypatch, of_folder=False, code=errno.ENOSPC)
    with pytest.raises(PrivateFileError, match="secret cannot be written: No space left on device"):
        write_private(secret, b"new")
    assert read_private(secret) == b"old"
    assert list(secret.parent.iterdir()) == [secret]


def test_a_name_that_a_power_cut_may_take_back_is_an_error(
    secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults(monkeypatch, of_folder=True, code=errno.EIO)
    with pytest.raises(PrivateFileError, match="secret cannot be written: Input/output error"):
        write_private(secret, b"new")


def test_a_file_system_that_cannot_sync_folders_will_do(
    secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults(monkeypatch, of_folder=True, code=errno.EINVAL)
    write_private(secret, b"new")
    assert read_private(secret) == b"new"
