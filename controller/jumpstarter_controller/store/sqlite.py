"""A lab in one SQLite file. What `write` has returned from survives a crash and a power cut.

Blocking; used from one thread at a time.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import msgspec
from jumpstarter_proto.errors import ExitCode, JumpstarterError

from jumpstarter_controller.lab import Client, Exporter, Lab, Lease, PairingCode, Policy, Record
from jumpstarter_controller.lab.tables import Place

__all__ = ["SqliteStore", "StoreError"]

SCHEMA = 1
"""Grows when the tables change."""
BUSY_SECONDS = 10.0
_KINDS: dict[str, type[Record]] = {kind.KIND: kind for kind in (Client, Exporter, Lease, Policy, PairingCode)}


class StoreError(JumpstarterError):
    """The file cannot be read or written; nothing of the write was kept."""

    status = "RESOURCE_EXHAUSTED"
    exit_code = ExitCode.FAILED


class SqliteStore:
    """One record a row, as JSON, in a file that only its owner may read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.touch(mode=0o600)
            self._db = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"{path} cannot be opened as the controller's data: {error}; "
                "choose another folder with --data, or bring a backup back"
            ) from error

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        # An answer that was given must be true after a power cut too.
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA wal_autocheckpoint=1000")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA:
            raise StoreError(
                f"{self._path} was written by a newer version (schema {version}, we know {SCHEMA}); update this one"
            )
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS records (kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, "
            "body TEXT NOT NULL, PRIMARY KEY (kind, namespace, name)) WITHOUT ROWID"
        )
        self._db.execute(f"PRAGMA user_version={SCHEMA}")
        for suffix in ("-wal", "-shm"):
            side = self._path.with_name(self._path.name + suffix)
            if side.exists():
                os.chmod(side, 0o600)

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
                    lab.put(msgspec.json.decode(body, type=_KINDS[kind]))
                except (KeyError, msgspec.MsgspecError) as error:
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
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany("DELETE FROM records WHERE kind=? AND namespace=? AND name=?", gone)
                self._db.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", new)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise StoreError(
                f"the controller cannot write to {self._path} ({error}); nothing was changed: "
                "make room on its disk and try again"
            ) from error

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()
