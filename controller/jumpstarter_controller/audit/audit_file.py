"""The SQLite file of the audit log, separate from the lab's database. Blocking; for one thread at a time."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import msgspec
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.json_texts import decode_json

from jumpstarter_controller.audit.entry import AuditEntry, Board, CallReport

__all__ = ["AuditError", "AuditFile", "AuditQuery"]

SCHEMA_VERSION = 1
MAX_ROWS = 500_000
MIN_PART = 4
"""The share of rows (one in this many) that is reserved for leases and the lab, however much boards report."""
DELETED_SHARE = 16
"""The share of the oldest rows (one in this many) that is deleted when there are too many."""
BUSY_SECONDS = 5.0
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

_log = logging.getLogger(__name__)


class AuditError(JumpstarterError):
    """The audit log cannot be written or read."""

    status = "UNAVAILABLE"


@dataclass(frozen=True)
class AuditQuery:
    """A filter on entries; empty fields match everything."""

    since: float = 0.0
    until: float = float("inf")
    namespace: str = ""
    board: str = ""
    client: str = ""
    lease: str = ""
    limit: int = 10_000
    """The number of entries; if there are more, the newest are returned."""


class AuditFile:
    """Opens the file at the first use, and again after an error."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._db: sqlite3.Connection | None = None

    def append(
        self,
        entries: Sequence[AuditEntry],
        before: float,
        reports: Mapping[Board, CallReport] = MappingProxyType({}),
    ) -> None:
        """Add entries, and with them which reports they are from; what is older than `before`, or too much, goes.

        Raises:
            AuditError: nothing was added.
        """
        rows = [
            (one.time, one.is_call, one.namespace, one.board, one.client, one.lease, _body(one))
            for one in entries
        ]
        try:
            db = self._opened()
            with db:
                db.execute("BEGIN IMMEDIATE")
                db.executemany(
                    "INSERT INTO entries (time, call, namespace, board, client, lease, body) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    rows,
                )
                db.executemany(
                    "INSERT OR REPLACE INTO reports (namespace, board, uid, reporter, next, time) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    [
                        (*board, one.uid, one.reporter, str(one.next), one.time)
                        for board, one in reports.items()
                    ],
                )
                db.execute("DELETE FROM entries WHERE time < ?", (before,))
                db.execute("DELETE FROM reports WHERE time < ?", (before,))
                self._shrink(db)
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from error

    def read(self, query: AuditQuery) -> tuple[list[AuditEntry], int]:
        """The entries in order of time, and how many older ones match. AuditError: they cannot be read."""
        where, values = _where(query)
        try:
            db = self._opened()
            (count,) = db.execute(f"SELECT COUNT(*) FROM entries WHERE {where}", values).fetchone()  # noqa: S608
            rows = db.execute(
                f"SELECT body FROM entries WHERE {where} ORDER BY time DESC, number DESC LIMIT ?",  # noqa: S608
                (*values, query.limit),
            ).fetchall()
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from error
        found = []
        for (body,) in reversed(rows):
            with suppress(ValueError):  # a row that no code of ours wrote
                found.append(decode_json(body, AuditEntry))
        return found, count - len(rows)

    def reports(self) -> dict[Board, CallReport]:
        """Which report of each exporter was the last, if there is a file. AuditError if that cannot be read."""
        if not self._path.exists():
            return {}
        try:
            rows = (
                self._opened()
                .execute("SELECT namespace, board, uid, reporter, next, time FROM reports")
                .fetchall()
            )
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from error
        found = {}
        for namespace, board, uid, reporter, number, time in rows:
            with suppress(TypeError, ValueError):  # a row that no code of ours wrote
                found[namespace, board] = CallReport(uid, reporter, int(number), time)
        return found

    def close(self) -> None:
        """Close the file. The next use opens it again."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            try:
                self._db = self._open()
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                    raise
                self._put_aside("damaged")
                self._db = self._open()
        return self._db

    def _open(self) -> sqlite3.Connection:
        self._make()
        db = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                db.close()
                self._put_aside("newer")
                return self._open()
            db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            db.execute("PRAGMA journal_mode=WAL")
            # A process that is killed loses nothing that was written; a power cut may take the last seconds.
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute("PRAGMA journal_size_limit=4194304")
            if version < SCHEMA_VERSION:
                db.executescript(
                    "BEGIN; CREATE TABLE entries (number INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, "
                    "call INTEGER NOT NULL, namespace TEXT NOT NULL, board TEXT NOT NULL, client TEXT NOT NULL, "
                    "lease TEXT NOT NULL, body TEXT NOT NULL); CREATE INDEX times ON entries (time); "
                    f"CREATE INDEX calls ON entries (call, number); PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
                )
            db.execute(
                "CREATE TABLE IF NOT EXISTS reports (namespace TEXT NOT NULL, board TEXT NOT NULL, uid TEXT NOT NULL, "
                "reporter TEXT NOT NULL, next TEXT NOT NULL, time REAL NOT NULL, PRIMARY KEY (namespace, board))"
            )  # beside the schema's version: versions before this one go on without it
        except BaseException:  # whatever it is, nobody else can close it
            db.close()
            raise
        return db

    def _make(self) -> None:
        """Create the file for the owner of the folder only, also if root runs this."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return
        try:
            if os.geteuid() == 0:
                owner = self._path.parent.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
        finally:
            os.close(descriptor)

    def _put_aside(self, why: str) -> None:
        aside = self._beside(f".{why}")
        for suffix in ("-wal", "-shm"):
            self._beside(suffix).unlink(missing_ok=True)
        self._path.replace(aside)
        _log.warning("the journal is begun anew, what was there is in %s", aside)

    def _beside(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)

    def _shrink(self, db: sqlite3.Connection) -> None:
        """Delete the oldest entries until the file is within its limits."""
        while True:
            counts = dict(db.execute("SELECT call, COUNT(*) FROM entries GROUP BY call").fetchall())
            rows = sum(counts.values())
            if rows <= MAX_ROWS and (self._used(db) <= self._max_bytes or not rows):
                break
            is_call = counts.get(1, 0) > counts.get(0, 0) * (MIN_PART - 1)
            db.execute(
                "DELETE FROM entries WHERE number IN "
                "(SELECT number FROM entries WHERE call=? ORDER BY number LIMIT ?)",
                (is_call, max(1, rows // DELETED_SHARE)),
            )
            db.execute("PRAGMA incremental_vacuum").fetchall()

    @staticmethod
    def _used(db: sqlite3.Connection) -> int:
        pages, free, size = (
            int(db.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def _failed(self, error: Exception) -> AuditError:
        """It may be another file by now, or a connection of no use."""
        with suppress(sqlite3.Error):
            self.close()
        self._db = None
        return AuditError(f"{self._path}: {error}; make room on its disk, or let this user write there")


def _where(query: AuditQuery) -> tuple[str, list[str | float]]:
    parts, values = ["time >= ? AND time <= ?"], [query.since, query.until]
    found: list[str | float] = [*values]
    for column in ("namespace", "client", "lease"):
        if value := getattr(query, column):
            parts.append(f"{column} = ?")
            found.append(value)
    if query.board:  # with what its leases were before they had it
        parts.append(
            "(board = ? OR (lease != '' AND (namespace, lease) IN "
            "(SELECT namespace, lease FROM entries WHERE board = ? AND lease != '')))"
        )
        found += [query.board, query.board]
    return " AND ".join(parts), found


def _body(entry: AuditEntry) -> str:
    return msgspec.json.encode(entry).decode()
