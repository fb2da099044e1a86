"""Secrets in files: what the disk does not take is an error, and leaves what was there."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from jumpstarter_proto.private_files import PrivateFileError, read_private, set_aside, write_private


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


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o601])
def test_one_that_others_can_use_is_refused(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    with pytest.raises(PrivateFileError, match=f"can be read by others .mode {mode:o}.; run: chmod 600"):
        read_private(secret)
    secret.chmod(0o400)
    assert read_private(secret) == b"old"


def test_one_that_is_not_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(PrivateFileError, match="cannot be read"):
        read_private(tmp_path / "pipe")


def test_what_cannot_be_read_is_kept_beside_what_was_kept_before(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    names = ["state.broken", "state.broken-2", "state.broken-3"]
    for number, name in enumerate(names):
        path.write_text(str(number))
        assert set_aside(path) == tmp_path / name
        assert not path.exists()
    assert [(tmp_path / name).read_text() for name in names] == ["0", "1", "2"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_root_leaves_a_file_to_whom_it_belongs(secret: Path) -> None:
    os.chown(secret, 4321, 4322)
    write_private(secret, b"new")
    found = secret.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (4321, 4322, 0o600)


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
