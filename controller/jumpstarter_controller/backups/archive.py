"""A backup is an SQLite file: the lab's database of one moment, and in two more tables its keys and what it is of.

It is made beside the controller that runs: SQLite gives a reader the database as the last answer to anybody had it.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import os
import secrets
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.file_names import MAX_NAME_BYTES
from jumpstarter_proto.installed import installed_version
from jumpstarter_proto.json_texts import decode_json
from jumpstarter_proto.private_files import read_private, sync_folder

from jumpstarter_controller.lab import LabState
from jumpstarter_controller.lab.tables import KINDS, RecordRef
from jumpstarter_controller.process.data_folder import Addresses, DataError, DataFolder
from jumpstarter_controller.store import SqliteStore, StoreError
from jumpstarter_controller.store.sqlite import BUSY_SECONDS, SCHEMA
from jumpstarter_controller.store.sqlite_files import beside, sqlite_errors
from jumpstarter_controller.store.whole import draft_of

__all__ = [
    "KEPT_FILES",
    "BackupError",
    "BackupUsageError",
    "Contents",
    "beside",
    "copy_private",
    "explained",
    "load",
    "load_readable",
    "load_with_revision",
    "read_backup",
    "remove_sides",
    "write_backup",
]

APPLICATION_ID = 0x4A53424B
"""An application id in the file's header, so that a backup and a lab's database are never confused."""
FORMAT = 1
OTHER_PLACE = "another place for it"
LEFT_SECONDS = 60.0
"""A temporary file that is older than this was left by a killed process."""
SECRETS = ("tokens.key", "router.key", "tls.key")
KEPT_FILES = (*SECRETS, "tls.crt", "tls.before.crt", "addresses.json")
"""Files of the data folder that a backup contains besides the database, so that tokens and routers stay valid."""
TABLES = ("backup", "backup_files")
SIDES = ("-journal", "-wal", "-shm")
"""The files that SQLite has beside a database. What it finds in them it writes into the database."""


class BackupError(JumpstarterError):
    """A backup cannot be created or used."""

    exit_code = ExitCode.FAILED


class BackupUsageError(BackupError):
    """The wrong file was given, or the command is not possible now."""

    exit_code = ExitCode.USAGE


class About(msgspec.Struct, frozen=True):
    """The description that a backup contains."""

    made: float
    """When the backup was begun, in seconds since the epoch."""
    version: str
    """The version of the program that created it."""
    schema: int
    counts: Mapping[str, int]
    """The number of records, by kind."""
    digest: str
    """SHA-256 of the rest of the backup."""
    format: int = FORMAT


@dataclass(frozen=True)
class Contents:
    """A backup that was read and verified."""

    path: Path
    size: int
    about: About
    addresses: Addresses
    """The controller's addresses."""
    files: Mapping[str, bytes]
    """The existing ones of `KEPT_FILES`."""


def write_backup(folder: DataFolder, path: Path, *, overwrite: bool = False) -> Contents:
    """Make a backup of a lab, whether its controller runs or not, with all changes that were acknowledged before.

    Only its owner may read it. After a crash there is either the previous file or the complete new one.

    Raises:
        DataError: there is no lab in that folder.
        BackupError, PrivateFileError: it cannot be created; no file is left.
    """
    if folder.exists:
        folder.check_access()
    folder.check_whole()
    folder.addresses()  # says what is missing
    if folder.addresses().kubernetes is not None:
        raise DataError(
            f"the records of the lab of {folder.path} are in Kubernetes; back up the cluster as you do it always, "
            "and the folder"
        )
    if not folder.database.exists():
        raise DataError(f"there is no {folder.database.name} in {folder.path}; restore a backup first")
    with explained(f"the backup cannot be written to {path.parent}", OTHER_PLACE):
        check_target(path, overwrite=overwrite)
    made, files = time.time(), _kept_files(folder)
    _check_readable(folder.database)
    with _part(path) as part:
        with (
            explained(f"{folder.database} cannot be copied to {path.parent}", OTHER_PLACE),
            closing(_connect(folder.database)) as db,
        ):
            _check_schema(db, folder.database)
            (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise BackupError(
                    f"{folder.database} is damaged ({' '.join(verdict.split())}); keep the backups that there are, and "
                    "restore one"
                )
            db.execute("VACUUM INTO ?", (part.absolute().as_uri(),))  # a URI has any bytes of a name
        counts = _counts(part, folder.database)
        with explained(f"the backup cannot be written to {path.parent}", OTHER_PLACE):
            _complete(part, files, made, counts)
            contents = read_backup(part)
            _publish(part, path, overwrite=overwrite)
        return replace(contents, path=path)


@contextmanager
def _part(path: Path) -> Iterator[Path]:
    """A file beside `path`, for its owner only, that is gone afterwards, as are those of processes that were killed."""
    with explained(f"the backup cannot be written to {path.parent}", OTHER_PLACE):
        for left in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}"):
            if left.stat().st_mtime < time.time() - LEFT_SECONDS:
                _remove_left(left)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield part
    finally:
        remove(part)
        os.close(descriptor)


def _remove_left(part: Path) -> None:
    """Delete what a killed process has left; not what another one is just writing."""
    descriptor = os.open(part, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove(part)
        remove(beside(part, ".check"))
    except BlockingIOError:
        pass
    finally:
        os.close(descriptor)


def _counts(part: Path, database: Path) -> Mapping[str, int]:
    """How many records of each kind there are; each is read as it would be after a restore."""
    scratch = beside(part, ".check")
    what = f"the backup of {database} cannot be checked in {part.parent}"
    try:
        with explained(what, OTHER_PLACE):
            copy_private(part, scratch)
        lab = load(scratch)
    except StoreError as error:
        if isinstance(error.__cause__, OSError | sqlite3.Error):
            with explained(what, OTHER_PLACE):
                raise error.__cause__ from None
        raise BackupError(str(error).replace(str(scratch), str(database))) from None
    finally:
        remove(scratch)
    return Counter(kind.KIND for kind in KINDS for _ in lab.all(kind))


def copy_private(source: Path, target: Path) -> None:
    """Copy a file durably, for its owner only."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file, source.open("rb") as original:
        shutil.copyfileobj(original, file)
        file.flush()
        os.fsync(file.fileno())


def check_target(path: Path, *, overwrite: bool) -> None:
    """Check that a backup may be written there. BackupUsageError: it may not. OSError: that cannot be said."""
    if len(os.fsencode(path.name)) > MAX_NAME_BYTES:
        raise BackupUsageError(
            f"the name of a backup has at most {MAX_NAME_BYTES} bytes; choose a shorter one"
        )
    if path.is_dir() or (os.path.lexists(path) and not path.is_file()):
        raise BackupUsageError(f"{path} is not a file; name one that is not there yet")
    if path.exists() and not overwrite:
        raise BackupUsageError(
            f"{path} is there already; choose another name, or replace it with --overwrite"
        )
    if not path.parent.is_dir():
        raise BackupUsageError(f"{path.parent} is not a folder; create it first, or choose another path")


def load(path: Path) -> LabState:
    """All records of a database, brought up to our schema. StoreError: it is damaged, or of a newer version."""
    return load_with_revision(path)[0]


def load_with_revision(path: Path) -> tuple[LabState, int]:
    """As `load`, and the number of changes that the database has seen."""
    lab, revision, _ = _loaded(path, whole=True)
    return lab, revision


def load_readable(path: Path) -> tuple[LabState, int, frozenset[RecordRef]]:
    """The same of the records that can be read, and which cannot."""
    return _loaded(path, whole=False)


def _loaded(path: Path, *, whole: bool) -> tuple[LabState, int, frozenset[RecordRef]]:
    store = SqliteStore(path, create=False)
    try:
        found = store.snapshot(whole=whole)
    finally:
        store.close()
    assert isinstance(found.cursor, int)
    return draft_of(found), found.cursor, found.damaged


def remove(database: Path) -> None:
    """Delete a database, with what SQLite has beside it."""
    for suffix in ("", *SIDES):
        with suppress(OSError):
            beside(database, suffix).unlink(missing_ok=True)


def remove_sides(database: Path) -> None:
    """Delete what SQLite has beside a database, so that nothing of it gets into another one of that name."""
    for suffix in SIDES:
        beside(database, suffix).unlink(missing_ok=True)


def _connect(path: Path) -> sqlite3.Connection:
    """To read. On a disk that takes no writes, too, if there is nothing to be read beside the file."""
    address = f"{path.absolute().as_uri()}?mode=rw"
    db = sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        db.execute("PRAGMA user_version").fetchone()
    except sqlite3.OperationalError as error:
        db.close()
        is_read_only = error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
        if not is_read_only or beside(path, "-wal").exists():
            raise
        db = _connect_read_only(path)
    return db


def _connect_read_only(path: Path) -> sqlite3.Connection:
    """Keep other processes from writing during the block."""
    address = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    return sqlite3.connect(address, uri=True, isolation_level=None)


def _check_schema(db: sqlite3.Connection, path: Path) -> None:
    (schema,) = db.execute("PRAGMA user_version").fetchone()
    if schema > SCHEMA:
        raise BackupUsageError(
            f"{path} is of a newer version of the program (schema {schema}, this one knows {SCHEMA}); use that one"
        )


def _kept_files(folder: DataFolder) -> dict[str, bytes]:
    """What of a lab is not in its database. BackupError, PrivateFileError: a file cannot be read."""
    files = {}
    for name in KEPT_FILES:
        file = folder.path / name
        if file.exists():
            _check_readable(file)
            try:
                files[name] = read_private(file) if name in SECRETS else file.read_bytes()
            except OSError as error:
                raise BackupError(f"{file} cannot be read: {error.strerror}; look after its disk") from error
    return files


def _check_readable(file: Path) -> None:
    """BackupUsageError: this user may not read it."""
    if not os.access(file, os.R_OK, effective_ids=True):
        raise BackupUsageError(
            f"{file} cannot be read: {os.strerror(errno.EACCES)}; let this user read it, or run this as its owner"
        )


def _complete(part: Path, files: Mapping[str, bytes], made: float, counts: Mapping[str, int]) -> None:
    """Add what is not in the database, and see to it that it is on the disk."""
    with closing(sqlite3.connect(part, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=OFF")  # nobody wants half of it
        (schema,) = db.execute("PRAGMA user_version").fetchone()
        db.execute("CREATE TABLE backup (about TEXT NOT NULL)")
        db.execute("CREATE TABLE backup_files (name TEXT PRIMARY KEY, body BLOB NOT NULL)")
        db.executemany("INSERT INTO backup_files VALUES (?, ?)", files.items())
        about = About(made, installed_version(), schema, counts, _digest(db))
        db.execute("INSERT INTO backup VALUES (?)", (msgspec.json.encode(about).decode(),))
        db.execute(f"PRAGMA application_id={APPLICATION_ID}")
    with part.open("rb") as whole:
        os.fsync(whole.fileno())


def _publish(part: Path, path: Path, *, overwrite: bool) -> None:
    """Rename the file to its final name, unless another process has created that meanwhile."""
    if overwrite:
        part.replace(path)
    else:
        try:
            os.link(part, path)
        except FileExistsError:
            check_target(path, overwrite=False)
            raise
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}:
                raise
            check_target(path, overwrite=False)  # as on a stick with FAT, which has no second names
            part.replace(path)
    sync_folder(path.parent)


def read_backup(path: Path) -> Contents:
    """Read a backup, and check that it is complete.

    Raises:
        BackupError: the file is not a backup, is damaged, or has a newer version.
    """
    try:
        if not path.is_file():
            raise BackupUsageError(f"there is no file {path}; name a backup that `admin backup` has made")
        _check_readable(path)
        with sqlite_errors(), closing(_connect_read_only(path)) as db:
            return _read(path, db)
    except (sqlite3.DatabaseError, OSError) as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_NOTADB:
            raise _no_backup(path) from None
        raise BackupError(f"the backup {path} cannot be read ({error}); use another one") from error
    except ValueError as error:
        raise _damaged(path, str(error)) from None


def _read(path: Path, db: sqlite3.Connection) -> Contents:
    (mark,) = db.execute("PRAGMA application_id").fetchone()
    if mark != APPLICATION_ID:
        raise _no_backup(path)
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise _damaged(path, " ".join(verdict.split()))
    rows = db.execute("SELECT about FROM backup").fetchall()
    if len(rows) != 1:
        raise _damaged(path, "it does not say what it is")
    about = decode_json(rows[0][0], About)
    if about.format > FORMAT:
        raise BackupUsageError(f"{path} was made by version {about.version}, which is newer; update this one")
    _check_schema(db, path)
    if _digest(db) != about.digest:
        raise _damaged(path, "its contents are not what was written")
    files = dict(db.execute("SELECT name, body FROM backup_files"))
    if not files.keys() <= set(KEPT_FILES):
        raise _damaged(path, "it has files that no backup has")
    addresses = decode_json(files["addresses.json"], Addresses)
    return Contents(path, path.stat().st_size, about, addresses, files)


def _no_backup(path: Path) -> BackupError:
    return BackupUsageError(
        f"{path} is not a backup of `jumpstarter-controller admin backup`; a copy of a data folder goes to its place "
        "as a whole, while no controller runs"
    )


def _damaged(path: Path, why: str) -> BackupError:
    return BackupError(f"the backup {path} is damaged ({why}); use another one")


def _digest(db: sqlite3.Connection) -> str:
    """Of all rows of all tables, but of what it is written into."""
    found = hashlib.sha256()
    tables = db.execute("SELECT name, sql FROM sqlite_master WHERE type='table' ORDER BY name").fetchall()
    for name, sql in tables:
        if name == "backup":
            continue
        found.update(msgspec.msgpack.encode((name, sql)))
        table = '"' + name.replace('"', '""') + '"'
        columns = len(db.execute(f"PRAGMA table_info({table})").fetchall())
        order = ", ".join(map(str, range(1, columns + 1)))
        for row in db.execute(f"SELECT * FROM {table} ORDER BY {order}"):  # noqa: S608 - quoted above
            found.update(msgspec.msgpack.encode(row))
    return found.hexdigest()


@contextmanager
def explained(what: str, otherwise: str) -> Iterator[None]:
    """Errors of the disk as a sentence: `what` is not possible, and what to do, or choose `otherwise`."""
    try:
        with sqlite_errors():
            yield
    except (OSError, sqlite3.Error) as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL or getattr(error, "errno", 0) in {errno.ENOSPC, errno.EDQUOT}:
            way_out = f"make room there, or choose {otherwise}"
        elif code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            way_out = "end the program that has it open, and try again"
        elif code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            way_out = "it is damaged: keep the backups that there are, and restore one"
        else:
            way_out = f"choose {otherwise}, or see to it that this user may read and write there"
        reason = getattr(error, "strerror", None) or error
        raise BackupError(f"{what} ({reason}); {way_out}") from error
