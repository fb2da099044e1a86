"""A lab in one SQLite file. What `write` has returned from survives a crash and a power cut.

Blocking; used from one thread at a time.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.json_texts import decode_json

from jumpstarter_controller.lab import Lab, Record
from jumpstarter_controller.lab.tables import KINDS, Place

__all__ = ["SqliteStore", "StoreError", "StoreFullError"]

MIGRATIONS: tuple[str, ...] = (
    (
        "CREATE TABLE IF NOT EXISTS records (kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, "
        "body TEXT NOT NULL, PRIMARY KEY (kind, namespace, name)) WITHOUT ROWID"
    ),
    "",  # no table, but records that versions before do not know: exporters' devices
    "",  # the same: hosts, and whose board an exporter is
    "",  # the same: that the lab is drained
)
"""What makes each version of the schema from the one before it, in order."""
SCHEMA = len(MIGRATIONS)
"""Of this version. A file of an older version is brought up to it, one of a newer version is refused."""
BUSY_SECONDS = 10.0
_KINDS: dict[str, type[Record]] = {kind.KIND: kind for kind in KINDS}


class StoreError(JumpstarterError):
    """The file cannot be read or written; nothing of the write was kept."""

    status = "UNAVAILABLE"
    exit_code = ExitCode.FAILED


class StoreFullError(StoreError):
    """There is no room for the write; nothing of it was kept."""

    status = "RESOURCE_EXHAUSTED"


class SqliteStore:
    """One record a row, as JSON, in a file that only its owner may read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._check_not_emptied()
            path.touch(mode=0o600)
            _sync_folder(path.parent)
            self._db = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:  # whatever it is, nobody else can close it
                self._db.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"{path} cannot be opened as the controller's data: {error}; {_way_out(error)}"
            ) from error

    def _check_not_emptied(self) -> None:
        """SQLite takes an empty file for a new one, and deletes the log beside it, in which everything may be."""
        log = self._path.with_name(self._path.name + "-wal")
        if self._path.exists() and not self._path.stat().st_size and log.exists() and log.stat().st_size:
            raise StoreError(
                f"{self._path} is empty and {log.name} is not: the data was damaged; bring a backup back"
            )

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        # An answer that was given must be true after a power cut too.
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA wal_autocheckpoint=1000")
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StoreError(f"{self._path} is damaged ({' '.join(verdict.split())}); bring a backup back")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA:
            raise StoreError(
                f"{self._path} was written by a newer version (schema {version}, we know {SCHEMA}); update this one"
            )
        if version < SCHEMA:
            self._migrate(version)
        for suffix in ("-wal", "-shm"):
            side = self._path.with_name(self._path.name + suffix)
            if side.exists():
                os.chmod(side, 0o600)

    def _migrate(self, version: int) -> None:
        """Bring the file up to our schema, whole or not at all."""
        with self._transaction():
            for statement in MIGRATIONS[version:]:
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version={SCHEMA}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All that the block writes, or nothing of it."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def load(self) -> Lab:
        """Everything, committed.

        Raises:
            StoreError: the file is damaged; says which record.
        """
        lab = Lab()
        try:
            for kind, namespace, name, body in self._db.execute(
                "SELECT kind, namespace, name, body FROM records"
            ):
                try:
                    lab.put(decode_json(body, _KINDS[kind]))
                except (KeyError, ValueError) as error:
                    raise StoreError(
                        f"{self._path}: {kind} {namespace}/{name} is damaged ({error}); bring a backup back"
                    ) from error
        except sqlite3.Error as error:
            raise StoreError(f"{self._path} cannot be read: {error}; bring a backup back") from error
        lab.commit()
        return lab

    def write(self, changes: Mapping[Place, Record | None]) -> None:
        """Keep all of these changes, or none.

        Raises:
            StoreError: none was kept; says why.
        """
        gone = [(kind.KIND, *key) for (kind, key), record in changes.items() if record is None]
        new = [
            (kind.KIND, *key, msgspec.json.encode(record).decode())
            for (kind, key), record in changes.items()
            if record is not None
        ]
        try:
            with self._transaction():
                self._db.executemany("DELETE FROM records WHERE kind=? AND namespace=? AND name=?", gone)
                self._db.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", new)
        except sqlite3.Error as error:
            kind = StoreFullError if _is_full(error) else StoreError
            raise kind(
                f"the controller cannot write to {self._path} ({error}); nothing was changed: {_way_out(error)}"
            ) from error

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


def _is_full(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def _way_out(error: Exception) -> str:
    """What to do."""
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return "make room on its disk and try again"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return "let the controller's user write to it and to its folder, and try again"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "end the program that has it open, and try again"
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return "choose another folder with --data, or bring a backup back"
        case sqlite3.SQLITE_IOERR:
            return "look after its disk and the system's log, and try again"
        case _:
            return "choose another folder with --data, or look after this one"


def _sync_folder(folder: Path) -> None:
    """Whoever wrote into a file has lost it all the same if a power cut takes its name."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
