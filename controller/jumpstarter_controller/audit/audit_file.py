"""The SQLite file of the audit log, separate from the lab's database. Blocking; for one thread at a time."""

from __future__ import annotations

import errno
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import msgspec
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.json_texts import decode_json
from jumpstarter_proto.private_files import create_private

from jumpstarter_controller.audit.entry import AuditEntry, Board, CallReport
from jumpstarter_controller.store.sqlite_files import (
    OpenFiles,
    beside,
    check_access,
    is_denied,
    real_path,
    reason_of,
    sqlite_errors,
)

__all__ = ["AuditError", "AuditFile", "AuditQuery"]

SCHEMA_VERSION = 1
MAX_ROWS = 500_000
MIN_PART = 4
"""The share of rows (one in this many) that is reserved for leases and the lab, however much boards report."""
DELETED_SHARE = 16
"""The share of the oldest rows (one in this many) that is deleted when there are too many."""
BUSY_SECONDS = 5.0
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_WRONG_SCHEMA = ("no such ", "table ")
"""How SQLite's words begin for a table that is not ours."""
_INSERT = (
    "INSERT INTO entries (time, call, namespace, board, client, lease, body) VALUES (?, ?, ?, ?, ?, ?, ?)"
)

_log = logging.getLogger(__name__)
T = TypeVar("T")


class _ReplacedError(Exception):
    """The open file is not the one of that name any more. Its text says which file."""


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
    """Opens the file at the first use, and again after an error.

    A damaged file is kept beside, and a new one is begun; so is one that somebody has removed. An entry says it.
    """

    def __init__(self, path: Path, max_bytes: float) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._db: sqlite3.Connection | None = None
        self._files: OpenFiles | None = None
        self._note = ""
        """Why the file is another one; for an entry in it."""

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
        rows = [_row(one) for one in entries]

        def add(db: sqlite3.Connection) -> None:
            if self._files is not None and (emptied := self._files.emptied(db)):
                raise _ReplacedError(emptied)
            with db:
                db.execute("BEGIN IMMEDIATE")
                self._check_files()
                db.executemany(_INSERT, rows)
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
            self._check_files()

        self._use(add)

    def read(self, query: AuditQuery) -> tuple[list[AuditEntry], int]:
        """The entries in order of time, and how many older ones match. AuditError: they cannot be read."""
        where, values = _where(query)

        def read(db: sqlite3.Connection) -> tuple[int, list[tuple[str]]]:
            (count,) = db.execute(f"SELECT COUNT(*) FROM entries WHERE {where}", values).fetchone()  # noqa: S608
            rows = db.execute(
                f"SELECT body FROM entries WHERE {where} ORDER BY time DESC, number DESC LIMIT ?",  # noqa: S608
                (*values, query.limit),
            ).fetchall()
            return count, rows

        count, rows = self._use(read)
        found = []
        for (body,) in reversed(rows):
            with suppress(TypeError, ValueError):  # a row that no code of ours wrote
                found.append(decode_json(body, AuditEntry))
        return found, count - len(rows)

    def reports(self) -> dict[Board, CallReport]:
        """Which report of each exporter was the last, if there is a file. AuditError if that cannot be read."""
        if not self._path.exists():
            return {}
        columns = "SELECT namespace, board, uid, reporter, next, time FROM reports"
        rows = self._use(lambda db: db.execute(columns).fetchall())
        found = {}
        for namespace, board, uid, reporter, number, noted in rows:
            with suppress(TypeError, ValueError):  # a row that no code of ours wrote
                found[namespace, board] = CallReport(uid, reporter, int(number), noted)
        return found

    def close(self) -> None:
        """Close the file. The next use opens it again."""
        files, self._files = self._files, None
        db, self._db = self._db, None
        if files is not None:
            files.close()
        if db is not None:
            db.close()

    def _use(self, action: Callable[[sqlite3.Connection], T]) -> T:
        """Do something with the open file; with a new one if it is damaged, or is not the open one any more.

        Raises:
            AuditError: it cannot be done.
        """
        for may_begin_anew in (True, False):
            try:
                with sqlite_errors():
                    return action(self._opened())
            except _ReplacedError as error:
                self._leave()
                if not may_begin_anew:
                    break
                self._note = f"{error} while the controller ran; entries from before may be missing"
                _log.warning("the journal is opened again: %s", self._note)
            except (OSError, sqlite3.Error) as error:
                self._leave()
                if not may_begin_anew or not _is_damage(error):
                    raise AuditError(f"{self._path}: {reason_of(error)}; {_way_out(error)}") from error
                self._put_aside("damaged")
        raise AuditError(f"{self._path} is replaced again and again; end the program that does it")

    def _opened(self) -> sqlite3.Connection:
        if self._db is not None:
            self._check_files(in_transaction=False)
            return self._db
        self._db = self._open()
        self._files = OpenFiles(self._path)
        if self._note:
            self._db.execute(_INSERT, _row(AuditEntry(time.time(), what=self._note)))
            self._note = ""
        return self._db

    def _check_files(self, *, in_transaction: bool = True) -> None:
        """Check that entries get to where somebody finds them. _ReplacedError: they do not."""
        if self._files is not None:
            changed = self._files.changed() or (self._files.cut() if in_transaction else "")
            if changed:
                raise _ReplacedError(changed)

    def _open(self) -> sqlite3.Connection:
        create_private(self._path)
        check_access(self._path)
        db = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        # One row with invalid text must not make all others unreadable.
        db.text_factory = lambda text: text.decode(errors="replace")
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

    def _put_aside(self, why: str) -> None:
        """Rename the file, with the log in which its last entries are. AuditError: that cannot be."""
        path = real_path(self._path)
        aside, log = beside(path, f".{why}"), beside(path, "-wal")
        try:
            beside(path, "-shm").unlink(missing_ok=True)
            beside(aside, "-wal").unlink(missing_ok=True)
            if log.exists():
                log.replace(beside(aside, "-wal"))
            path.replace(aside)
        except OSError as error:
            raise AuditError(
                f"{self._path} is {why} and cannot be renamed: {error.strerror}; move it away"
            ) from error
        state = "was damaged" if why == "damaged" else "was of a newer version"
        self._note = f"the journal {state} and is begun anew; what was there is in {aside}"
        _log.warning("%s", self._note)

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

    def _leave(self) -> None:
        """Close after an error: it may be another file by now, or a connection of no use."""
        with suppress(sqlite3.Error):
            self.close()


def _is_damage(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in _DAMAGED or (code == sqlite3.SQLITE_ERROR and str(error).startswith(_WRONG_SCHEMA))


def _way_out(error: Exception) -> str:
    """The next step for the user."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL or getattr(error, "errno", 0) in {errno.ENOSPC, errno.EDQUOT}:
        return "make room on its disk"
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return "end the program that has it open"
    if _is_damage(error):
        return "move it away, and a new one is begun"
    if code == sqlite3.SQLITE_IOERR:
        return "make room on its disk, or look after it and the system's log"
    if is_denied(error):
        return "let the controller's user write to it and to its folder"
    return "make room on its disk, or let this user write there"


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


def _row(entry: AuditEntry) -> tuple[object, ...]:
    body = msgspec.json.encode(entry).decode()
    return (entry.time, entry.is_call, entry.namespace, entry.board, entry.client, entry.lease, body)
