"""A data folder, or a file in it, that this user may not use: which one, and what to do."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from jumpstarter_proto.errors import JumpstarterError

from jumpstarter_controller.audit import AuditEntry, AuditQuery
from jumpstarter_controller.audit.audit_file import AuditError, AuditFile
from jumpstarter_controller.backups.archive import read_backup, write_backup
from jumpstarter_controller.identity import random_key, signing_key
from jumpstarter_controller.process.certificates import own_certificate
from jumpstarter_controller.process.data_folder import Addresses, DataError, DataFolder
from jumpstarter_controller.process.serving import tls_of
from jumpstarter_controller.store import SqliteStore, StoreError
from jumpstarter_controller.store.sqlite_files import OpenFiles

NOBODY = 65534
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


@contextmanager
def as_nobody() -> Iterator[None]:
    """Everything in the block is done by a user who is not root."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(was)


def use(folder: DataFolder) -> None:
    """All that a controller and its administrator do with the files."""
    with folder.locked() as alone:
        assert alone
    folder.addresses()
    SqliteStore(folder.database, create=False).close()
    with closing(AuditFile(folder.journal, 1 << 20)) as journal:
        journal.append([AuditEntry(1.0, what="used")], 0.0)
        journal.read(AuditQuery())
    certificate = own_certificate(folder.path, [])
    certificate.fingerprint()
    tls_of(certificate)
    signing_key(folder.signing_key)
    random_key(folder.router_key)


@pytest.fixture
def folder() -> Iterator[DataFolder]:
    """A lab of nobody, or else of who runs the tests, where they may go."""
    with tempfile.TemporaryDirectory(prefix="lab-", dir="/tmp") as home:
        os.chmod(home, 0o755)
        made = DataFolder(Path(home) / "data")
        made.prepare()
        made.remember(Addresses("lab:8082"))
        SqliteStore(made.database).close()
        use(made)
        if os.geteuid() == 0:
            for file in (made.path, *made.path.iterdir()):
                os.chown(file, NOBODY, NOBODY)
        (Path(home) / "out").mkdir()
        os.chmod(Path(home) / "out", 0o777)
        write_backup(made, Path(home) / "out" / "first")  # loads what nobody may not load
        yield made


FILES = [
    "addresses.json",
    "journal.sqlite",
    "lab.sqlite",
    "lock",
    "router.key",
    "tls.crt",
    "tls.key",
    "tokens.key",
]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_may_not_be_read_is_named_with_the_reason(folder: DataFolder, name: str) -> None:
    (folder.path / name).chmod(0)
    with as_nobody(), pytest.raises(JumpstarterError) as refused:
        use(folder)
    sentence = str(refused.value)
    assert str(folder.path / name) in sentence
    assert "Permission denied" in sentence
    assert "has not run" not in sentence
    assert "is not a" not in sentence
    assert "make room" not in sentence


@pytest.mark.parametrize(("name", "error"), [("lab.sqlite", StoreError), ("journal.sqlite", AuditError)])
def test_a_database_that_may_not_be_written_is_not_opened(
    folder: DataFolder, name: str, error: type[Exception]
) -> None:
    (folder.path / name).chmod(0o400)
    with (
        as_nobody(),
        pytest.raises(error, match=r"Permission denied.* let the controller's user write to it"),
    ):
        use(folder)


@pytest.mark.parametrize("name", sorted(set(FILES) - {"journal.sqlite", "lock"}))
def test_a_backup_says_which_file_it_cannot_read(folder: DataFolder, name: str) -> None:
    (folder.path / name).chmod(0)
    with as_nobody(), pytest.raises(JumpstarterError) as refused:
        write_backup(folder, folder.path.parent / "out" / "b")
    assert f"{folder.path / name} cannot be read: Permission denied" in str(refused.value)
    assert "another place" not in str(refused.value)


def test_a_backup_that_may_not_be_read_is_not_called_useless(folder: DataFolder) -> None:
    path = folder.path.parent / "out" / "first"
    path.chmod(0)
    with (
        as_nobody(),
        pytest.raises(JumpstarterError, match="cannot be read: Permission denied; let this user"),
    ):
        read_backup(path)


@only_root
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o777])
def test_who_may_use_the_folder_of_another_user_is_said(folder: DataFolder, mode: int) -> None:
    os.chown(folder.path, 1, 1)
    folder.path.chmod(mode)
    with as_nobody(), pytest.raises(DataError, match=r"this user may not use .*; do it as \w+ \(sudo -u\)"):
        folder.prepare()


@only_root
def test_what_root_creates_in_the_folder_of_another_user_is_that_users(folder: DataFolder) -> None:
    for file in folder.path.iterdir():
        file.unlink()
    folder.remember(Addresses("lab:8082"))
    SqliteStore(folder.database).close()
    use(folder)
    assert {file.name: file.stat().st_uid for file in folder.path.iterdir()} == dict.fromkeys(FILES, NOBODY)
    with as_nobody():
        use(folder)


def test_the_log_of_a_database_that_may_only_be_read_is_not_said_to_be_shortened(folder: DataFolder) -> None:
    folder.database.chmod(0o400)
    with as_nobody():
        (folder.path / "lab.sqlite-wal").touch(mode=0o400)  # as a program leaves it that could only read
    with as_nobody(), closing(sqlite3.connect(folder.database)) as db:
        db.execute("SELECT COUNT(*) FROM records").fetchone()
        files = OpenFiles(folder.database)
        assert files.emptied(db) == ""
        files.close()
