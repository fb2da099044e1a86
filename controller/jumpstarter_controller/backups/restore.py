"""Restores a lab from a backup. The present data is kept as a separate data folder.

No step is half done: all of the new is on the disk before the first file of the old is replaced, and from then to the
last one a note says that the restore has to be run again before the controller may start.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from jumpstarter_proto.file_names import safe_name
from jumpstarter_proto.private_files import sync_folder, write_private
from jumpstarter_proto.texts import shown

from jumpstarter_controller.backups.archive import (
    APPLICATION_ID,
    KEPT_FILES,
    SIDES,
    TABLES,
    BackupError,
    BackupUsageError,
    Contents,
    beside,
    copy_private,
    explained,
    load_readable,
    load_with_revision,
    read_backup,
    remove_sides,
)
from jumpstarter_controller.backups.carry_over import (
    CarryOver,
    carry_over,
    count_as_deleted,
    dropped_codes,
    is_other_lab,
    valid_again,
)
from jumpstarter_controller.lab import Drain, LabState
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.process.data_folder import DataFolder
from jumpstarter_controller.store import SqliteStore, StoreError
from jumpstarter_controller.store.sqlite_files import sqlite_errors
from jumpstarter_controller.store.whole import overwrite

__all__ = ["Restored", "check_alone", "give", "keep_data", "restore"]

STAGE = ".restore-"
DATABASE_FILES = ("", "-wal", "-journal")
"""What a database consists of, after a crash."""
OTHER_PLACE = "another disk for the data folder"


@dataclass(frozen=True)
class Restored:
    """The result of a restore."""

    contents: Contents
    kept: Path | None
    """Where the earlier data is kept; None: there was none."""
    sentences: tuple[str, ...]
    """Notes for the user."""


def restore(folder: DataFolder, path: Path, *, exactly: bool = False) -> Restored:
    """Replace the lab in the data folder with a backup.

    Leases and identities stay as in the present data if it can be read, except with `exactly`.

    Raises:
        BackupError: it cannot be restored. The data is unchanged, or the folder is marked as incomplete.
        DataError, StoreError, PrivateFileError: the same, of the data folder and of the backup's database.
    """
    contents = read_backup(path)
    folder.prepare()
    with folder.locked() as alone:
        if not alone:
            raise BackupUsageError(
                f"a controller uses {folder.path}; stop it first (systemctl stop jumpstarter-controller), "
                "and restore then"
            )
        for file in (*_files_of(folder), folder.restoring):
            if file.is_dir():
                raise BackupUsageError(
                    f"{file} is a folder, and should be a file; move it away, and restore then"
                )
        for left in folder.path.glob(f"{STAGE}*"):  # by a restore that was killed
            shutil.rmtree(left, ignore_errors=True)
        with (
            explained(f"the backup cannot be restored to {folder.path}", OTHER_PLACE),
            tempfile.TemporaryDirectory(prefix=STAGE, dir=folder.path) as stage,
        ):
            return _restore(folder, contents, Path(stage), exactly=exactly)


def _restore(folder: DataFolder, contents: Contents, stage: Path, *, exactly: bool) -> Restored:
    kept = _kept_before(folder) or keep_data(folder, stage)
    new = DataFolder(stage / "new")
    _unpack(contents, new)
    lab, revision = load_with_revision(new.database)
    present, why_not, damaged = _present(kept, stage, lab, revision)
    carried = _carried(lab, present, exactly=exactly)
    if damaged:
        carried.sentences.insert(0, count_as_deleted(damaged))
    _write(new.database, carried)
    give(folder.path, new.path, *new.path.iterdir(), folder.path / "lock")
    sentences = [*carried.sentences]
    before = None if kept is None else DataFolder(kept).signing_key
    if before is not None and before.exists() and before.read_bytes() != contents.files.get(before.name):
        sentences.append(
            "tokens are signed with the backup's key; those that the present key has signed are invalid"
        )
    if carried.changes.get((Drain, Drain.KEY), lab.get(Drain, Drain.KEY)) is not None:
        sentences.append("the lab is drained; let leases begin: jumpstarter-controller resume")
    if present is None:
        sentences.append(_unknown(contents, why_not))
    write_private(folder.restoring, (kept.name if kept else "").encode())
    _replace(folder, new)
    folder.restoring.unlink()
    sync_folder(folder.path)
    return Restored(contents, kept, tuple(sentences))


def _kept_before(folder: DataFolder) -> Path | None:
    """Where a restore that was cut short has kept the data from before."""
    try:
        name = folder.restoring.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return None
    if not name:
        return None
    kept = folder.path / safe_name(name)
    if not kept.is_dir():
        raise BackupError(
            f"{folder.restoring} does not say where the data from before is ({shown(name)}); write the name of that "
            "folder (before-restore-...) into it, or empty it if there is none, and restore again"
        )
    return kept


def _files_of(folder: DataFolder) -> list[Path]:
    """The files of a lab, whether they are there or not."""
    return [folder.path / name for name in KEPT_FILES] + [
        beside(folder.database, suffix) for suffix in ("", *SIDES)
    ]


def keep_data(folder: DataFolder, stage: Path, why: str = "restore") -> Path | None:
    """A copy of the present data, from before something; None if there is none."""
    check_alone(folder.database)
    copies = DataFolder(stage / "kept")
    pairs = [(folder.path / name, copies.path / name) for name in KEPT_FILES]
    pairs += [(beside(folder.database, suffix), beside(copies.database, suffix)) for suffix in DATABASE_FILES]
    there = [pair for pair in pairs if pair[0].exists()]
    if not there:
        return None
    copies.path.mkdir(0o700)
    for pair in there:
        copy_private(*pair)
    sync_folder(copies.path)
    give(folder.path, copies.path, *copies.path.iterdir())
    first = folder.path / time.strftime(f"before-{why}-%Y%m%dT%H%M%S")
    for number in count(1):
        kept = first if number == 1 else beside(first, f"-{number}")
        if not kept.exists():
            break
    copies.path.rename(kept)
    sync_folder(folder.path)
    return kept


def check_alone(database: Path) -> None:
    """BackupUsageError if some program has it open: what that writes would be lost. Closes SQLite's log, if it can."""
    if not database.exists() or not database.stat().st_size:
        return  # SQLite would delete the log of an empty one
    try:
        with sqlite_errors(), closing(sqlite3.connect(database, timeout=1.0, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise BackupUsageError(f"some program has {database} open; end it, and restore then") from error
        # It is damaged, perhaps; that is why somebody restores.


def _present(
    kept: Path | None, stage: Path, lab: LabState, revision: int
) -> tuple[LabState | None, str, frozenset[RecordRef]]:
    """The present records, or why they cannot be used for this lab, which has seen so many changes.

    Third, which of them are damaged, and left out.
    """
    database = None if kept is None else DataFolder(kept).database
    if database is None or not database.exists():
        return None, "cannot be read (there is none)", frozenset()
    copy = DataFolder(stage).database
    for suffix in DATABASE_FILES:
        file = beside(database, suffix)
        if file.exists():
            copy_private(file, beside(copy, suffix))
    try:
        present, last, damaged = load_readable(copy)
    except StoreError as error:
        return None, f"cannot be read ({str(error).replace(str(copy), str(database))})", frozenset()
    if last < revision and is_other_lab(present, lab):
        return None, f"is another lab ({database} has nothing of the backup)", frozenset()
    return present, "", damaged


def _carried(state: LabState, present: LabState | None, *, exactly: bool) -> CarryOver:
    if present is not None and not exactly:
        return carry_over(state, present)
    carried = dropped_codes(state)
    if present is not None:
        carried.sentences += valid_again(state, present)
    return carried


def _unknown(contents: Contents, why_not: str) -> str:
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(contents.about.made))
    return (
        f"tokens that were revoked after the backup ({made}) are valid again, as the present data {why_not}; "
        "revoke them again: jumpstarter-controller admin client rotate --help"
    )


def _unpack(contents: Contents, new: DataFolder) -> None:
    """The backup as a data folder."""
    new.path.mkdir(0o700)
    for name, body in contents.files.items():
        write_private(new.path / name, body)
    copy_private(contents.path, new.database)
    with closing(sqlite3.connect(new.database, isolation_level=None)) as db:
        (mark,) = db.execute("PRAGMA application_id").fetchone()
        if mark != APPLICATION_ID:
            raise BackupError(f"{contents.path} was changed while it was read; try again")
        for table in TABLES:
            db.execute(f"DROP TABLE {table}")
        db.execute("PRAGMA application_id=0")
        db.execute("VACUUM")  # no key stays where it does not belong


def _write(database: Path, carried: CarryOver) -> None:
    store = SqliteStore(database)
    try:
        overwrite(store, carried.changes)
    finally:
        store.close()
    with database.open("rb") as file:
        os.fsync(file.fileno())


def _replace(folder: DataFolder, new: DataFolder) -> None:
    """Each file has one of two states; which of them some have when this is cut short does not matter."""
    remove_sides(folder.database)
    new.database.replace(folder.database)
    for name in KEPT_FILES:
        if (new.path / name).exists():
            (new.path / name).replace(folder.path / name)
        else:
            (folder.path / name).unlink(missing_ok=True)
    sync_folder(folder.path)


def give(folder: Path, *paths: Path) -> None:
    """Give files that root created to the owner of the folder, so that the service can use them."""
    if os.geteuid() == 0:
        owner = folder.stat()
        for path in paths:
            os.chown(path, owner.st_uid, owner.st_gid)
