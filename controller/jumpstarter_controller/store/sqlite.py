"""A store in one SQLite file. Changes are durable when `commit` returns, even after a crash or a power cut."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from jumpstarter_proto.json_texts import decode_json
from jumpstarter_proto.private_files import create_private
from jumpstarter_proto.texts import shown

from jumpstarter_controller.lab import Key, Record
from jumpstarter_controller.lab.tables import KINDS, RecordRef
from jumpstarter_controller.store.contract import (
    MAX_NAME_LENGTH,
    Change,
    Conflict,
    Cursor,
    DamagedError,
    Half,
    Snapshot,
    Stored,
    StoreError,
    StoreEvent,
    StoreFullError,
    TooOldError,
    WatchResult,
    Written,
    aged,
    check_bounds,
    defaults_of,
    max_bytes,
    values_of,
)
from jumpstarter_controller.store.sqlite_files import (
    OpenFiles,
    beside,
    check_access,
    is_denied,
    real_path,
    reason_of,
    sqlite_errors,
)

__all__ = ["SqliteStore"]

BUSY_SECONDS = 10.0
LOOK_SECONDS = 0.25
"""The interval in which the file is checked for changes of other processes."""
MAX_DELETED = 10_000
"""Deleted records that are remembered. A reader that is further behind has to take a snapshot."""
MAX_OWN_CHANGES = 10_000
"""Own writes that are remembered, so that `watch` need not read them again."""
MAX_REVISION = 1 << 62
"""The greatest number of a change that is believed. SQLite has numbers up to twice as many."""
MAX_UNREADABLE = 100
"""Unreadable rows that are remembered. Each is logged once."""

_log = logging.getLogger(__name__)
_KINDS: dict[str, type[Record]] = {kind.KIND: kind for kind in KINDS}
_PLACE = (
    f"substr(kind, 1, {MAX_NAME_LENGTH}), substr(namespace, 1, {MAX_NAME_LENGTH + 1}), "
    f"substr(name, 1, {MAX_NAME_LENGTH + 1})"
)
_LIMIT = " ".join(f"WHEN '{kind.KIND}' THEN {max_bytes(kind) + 1}" for kind in KINDS)
_HALF = f"substr(CAST({{0}} AS BLOB), 1, CASE kind {_LIMIT} ELSE 1 END)"
_NUMBER = "CASE typeof({0}) WHEN 'integer' THEN {0} END"
_ROW = ", ".join(
    (
        _PLACE,
        *(_HALF.format(half.value) for half in Half),
        *(_NUMBER.format(name) for name in ("revision", "age")),
        f"substr(request, 1, {MAX_NAME_LENGTH})",
    )
)
"""All of a record, and of what somebody else has written no more than shows that it is too large."""
_ALL = f"SELECT {_ROW} FROM records"  # noqa: S608 - all of it is above
_ONE = f"{_ALL} WHERE kind=? AND namespace=? AND name=?"
_NEWER = f"{_ALL} WHERE revision > ?"
_GONE = f"SELECT revision, {_PLACE} FROM gone WHERE revision > ?"  # noqa: S608
_MAKE = (
    "INSERT OR IGNORE INTO records (kind, namespace, name, spec, status, revision, age, request) "
    "VALUES (?, ?, ?, ?, '{}', ?, ?, ?)"
)
_SWAP = {
    Half.SPEC: (
        "UPDATE records SET spec=?, revision=?, request=? "
        "WHERE kind=? AND namespace=? AND name=? AND revision=?"
    ),
    Half.STATUS: (
        "UPDATE records SET status=?, revision=?, request=? "
        "WHERE kind=? AND namespace=? AND name=? AND revision=?"
    ),
}
_REMOVE = "DELETE FROM records WHERE kind=? AND namespace=? AND name=? AND revision=?"
_Row: TypeAlias = tuple[str, str, str, bytes, bytes, int | None, int | None, str]


def _split_records(db: sqlite3.Connection) -> None:
    """Each record in two halves, with a revision and an age, which leases had as their own number.

    ValueError: one is no record; says which.
    """
    rows = db.execute("SELECT kind, namespace, name, body FROM records").fetchall()
    db.execute("DROP TABLE records")
    for statement in (
        (
            "CREATE TABLE records (kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, "
            "spec TEXT NOT NULL, status TEXT NOT NULL, revision INTEGER NOT NULL, age INTEGER NOT NULL, "
            "request TEXT NOT NULL, PRIMARY KEY (kind, namespace, name)) WITHOUT ROWID"
        ),
        "CREATE INDEX revisions ON records (revision)",
        (
            "CREATE TABLE gone (revision INTEGER PRIMARY KEY, kind TEXT NOT NULL, namespace TEXT NOT NULL, "
            "name TEXT NOT NULL)"
        ),
        "CREATE TABLE numbers (last INTEGER NOT NULL, forgotten INTEGER NOT NULL)",
    ):
        db.execute(statement)
    newest = 0
    for kind, namespace, name, body in rows:
        try:
            fields = decode_json(body, dict[str, Any])
            age = _age(fields.pop("order", 0))
            status = {key: fields.pop(key) for key in _KINDS[kind].STATUS if key in fields}
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"{kind} {namespace}/{name} is damaged ({error})") from None
        newest = max(newest, age)
        halves = (msgspec.json.encode(half).decode() for half in (fields, status))
        db.execute(
            "INSERT INTO records VALUES (?, ?, ?, ?, ?, 0, ?, '')", (kind, namespace, name, *halves, age)
        )
    db.execute("INSERT INTO numbers VALUES (?, 0)", (newest,))


def _age(order: Any) -> int:
    """The age of a lease of an earlier version. TypeError, ValueError, OverflowError: it was never given."""
    age = int(order)
    if not 0 <= age <= MAX_REVISION:
        raise ValueError(f"its age {age} was never given")
    return age


MIGRATIONS: tuple[str | Callable[[sqlite3.Connection], None], ...] = (
    (
        "CREATE TABLE IF NOT EXISTS records (kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, "
        "body TEXT NOT NULL, PRIMARY KEY (kind, namespace, name)) WITHOUT ROWID"
    ),
    "",  # no table, but records that versions before do not know: exporters' devices
    "",  # the same: hosts, and whose board an exporter is
    "",  # the same: that the lab is drained
    _split_records,
)
"""The steps that upgrade each version of the schema to the next one, in order."""
SCHEMA = len(MIGRATIONS)
"""The schema of this version. A file with an older one is upgraded; one with a newer one is rejected."""

_STORED_NAMES = {"previous_uid": "outgoing", "previous_uid_until": "outgoing_until"}
"""Fields of records that databases of earlier versions have under another name."""
_FIELD_NAMES = {stored: name for name, stored in _STORED_NAMES.items()}


class SqliteStore:
    """One row for each record, its halves as JSON, in a file that only its owner may read.

    Others may write to the file, each with a store of their own.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        """Open the file. Without `create`, a missing one and one without a lab are rejected.

        Raises:
            StoreError: it cannot be used; says what to do.
        """
        self._path = path
        self._may_create = create
        self._lock = threading.Lock()
        """For the connection of all calls except `watch`."""
        self._watching = threading.Lock()
        self._woken = threading.Event()
        self._wakes = 0
        """The number of calls of `wake`. A write that waits for a lock gives up when it changes."""
        self._own: deque[tuple[int, int]] = deque(maxlen=MAX_OWN_CHANGES)
        """Ranges of revisions (exclusive, inclusive) that this store wrote itself, and need not read again."""
        self._alone = (0, 0)
        """The same, of what was written last with nobody else in between."""
        self._no_records: deque[int] = deque(maxlen=MAX_UNREADABLE)
        """Hashes of rows of which it was said that they are none."""
        self._newest = 0
        """The greatest revision that was read."""
        try:
            with sqlite_errors():
                self._open()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"{path} cannot be opened as the controller's data: {reason_of(error)}; {_way_out(error)}"
            ) from error

    def _open(self) -> None:
        self._check_not_lost()
        create_private(self._path)
        check_access(self._path)
        _sync_folder(self._path.parent)
        with ExitStack() as opened:  # after an error no other code has a reference to the connections
            self._db = opened.enter_context(closing(self._connect()))
            self._prepare()
            self._watcher = opened.enter_context(closing(self._connect()))
            self._watcher.execute("PRAGMA data_version").fetchone()  # opens the log, too
            self._files = OpenFiles(self._path)
            opened.pop_all()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        # One row with invalid text must not make all others unreadable.
        db.text_factory = lambda text: text.decode(errors="replace")
        return db

    def _check_not_lost(self) -> None:
        """Reject an empty file and none where a lab was.

        SQLite takes it for new, and deletes the log beside it, which may contain data.
        """
        is_there = self._path.exists()
        if is_there and self._path.stat().st_size:
            return
        state = "is empty" if is_there else "is missing"
        # SQLite writes the first page with a journal: one beside an empty file may be from a first start.
        suffixes = ("-wal",) if is_there else ("-wal", "-journal")
        for side in (beside(real_path(self._path), suffix) for suffix in suffixes):
            if side.exists() and side.stat().st_size:
                raise StoreError(
                    f"{self._path} {state} and {side.name} is not: the data was damaged; restore a backup"
                )
        if not self._may_create:
            raise self._no_lab(state)

    def _no_lab(self, state: str) -> StoreError:
        return StoreError(
            f"{self._path} {state}, but a lab was there; restore a backup, or move the folder away to begin a new lab"
        )

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        # An acknowledged change must survive a power cut.
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA wal_autocheckpoint=1000")
        (verdict,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise StoreError(f"{self._path} is damaged ({' '.join(verdict.split())}); restore a backup")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA:
            raise StoreError(
                f"{self._path} was written by a newer version (schema {version}, we know {SCHEMA}); update this one"
            )
        if version < 1 and not self._may_create:
            raise self._no_lab("has no lab in it")
        if version < SCHEMA:
            self._migrate()
        for suffix in ("-wal", "-shm"):
            side = beside(real_path(self._path), suffix)
            if side.exists():
                os.chmod(side, 0o600)

    def _migrate(self) -> None:
        """Upgrade the schema, in one transaction."""
        try:
            with self._transaction():
                (version,) = self._db.execute("PRAGMA user_version").fetchone()  # another may have been first
                for step in MIGRATIONS[version:]:
                    if isinstance(step, str):
                        self._db.execute(step)
                    else:
                        step(self._db)
                self._db.execute(f"PRAGMA user_version={SCHEMA}")
        except ValueError as error:
            raise StoreError(f"{self._path}: {error}; restore a backup") from error

    def _check_file(self) -> None:
        """Check that the open files still have their names. StoreError: not so, and writes would be lost."""
        if changed := self._files.changed():
            is_gone = not self._path.exists()
            raise StoreError(
                f"{changed} while the controller runs; nothing was changed: "
                + ("restore a backup, and " if is_gone else "")
                + "restart the controller to use the present file"
            )

    def _check_log(self, cut: str) -> None:
        """Check the log of the database. StoreError: what it had is lost."""
        if cut:
            raise StoreError(
                f"{cut} while the controller runs, so the last changes are lost; restart the controller, and look "
                "whether a backup has to be restored"
            )

    def _keep_removed_log(self) -> None:
        """Write what is in a log that somebody has removed into the database, as long as we have it open."""
        if self._path.exists() and not self._files.log.exists():
            with suppress(sqlite3.Error):
                self._watcher.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def _numbers(self, db: sqlite3.Connection) -> tuple[int, int]:
        """The last revision, and that up to which it is not known what is gone.

        Raises:
            sqlite3.DatabaseError: somebody has damaged them.
            StoreError: somebody has written an older copy over the file: what we know is newer.
        """
        newest = self._newest  # another thread may write, and what it writes from now on need not be seen
        row = db.execute("SELECT last, forgotten FROM numbers").fetchone()
        if (
            row is None
            or not all(isinstance(one, int) for one in row)
            or not 0 <= row[1] <= row[0] <= MAX_REVISION
        ):
            damaged = sqlite3.DatabaseError(f"its table of numbers is damaged: {shown(str(row))}")
            damaged.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise damaged
        last, forgotten = row
        if last < newest:
            raise StoreError(
                f"{self._path} was brought back to an older copy while the controller runs; nothing was changed: "
                "restart the controller to use the present file"
            )
        self._newest = max(newest, last)
        return last, forgotten

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """A transaction: everything that the block writes, or nothing."""
        self._begin()
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _begin(self) -> None:
        """Begin a transaction that writes: wait `BUSY_SECONDS` for another writer, but no longer than until `wake`."""
        due, wakes = time.monotonic() + BUSY_SECONDS, self._wakes
        self._set_busy_timeout(min(LOOK_SECONDS, BUSY_SECONDS))
        try:
            while True:
                try:
                    self._db.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError as error:
                    if not _is_busy(error) or time.monotonic() >= due or self._wakes != wakes:
                        raise
                else:
                    return
        finally:
            self._set_busy_timeout(BUSY_SECONDS)

    def _set_busy_timeout(self, seconds: float) -> None:
        self._db.execute(f"PRAGMA busy_timeout={seconds * 1000:.0f}")

    def snapshot(self, *, whole: bool = True) -> Snapshot:
        """As `Store.snapshot`.

        Raises:
            StoreError: the file is damaged; says which record.
        """
        with self._lock, self._reading(self._db):
            rows = self._db.execute(_ALL).fetchall()
            last, _ = self._numbers(self._db)
        records: dict[RecordRef, Stored] = {}
        damaged: set[RecordRef] = set()
        for row in rows:
            if row[0] not in _KINDS:
                self._leave_alone(row)
                continue
            ref = _KINDS[row[0]], Key(row[1], row[2])
            try:
                records[ref] = _stored(row, last)
            except ValueError as error:
                if not whole:
                    damaged.add(ref)
                    continue
                raise StoreError(
                    f"{self._path}: {shown(row[0])} {shown(row[1])}/{shown(row[2])} is damaged ({error}); "
                    "restore a backup"
                ) from error
        return Snapshot(records, last, frozenset(damaged))

    def read(self, ref: RecordRef) -> Stored | None:
        """As `Store.read`."""
        with self._lock, self._reading(self._db):
            last, _ = self._numbers(self._db)
            row = self._db.execute(_ONE, (ref[0].KIND, *ref[1])).fetchone()
        try:
            return None if row is None else _stored(row, last)
        except ValueError as error:
            raise DamagedError(
                f"{self._path}: {_words(ref)} is damaged ({error}); repair it, or restore a backup"
            ) from error

    def commit(self, changes: Sequence[Change]) -> Sequence[Written]:
        """As `Store.commit`; in one transaction."""
        done: list[Written] = []
        try:
            with sqlite_errors(), self._lock:
                self._check_log(self._files.emptied(self._db))
                with self._transaction():
                    self._check_log(self._files.cut())
                    before, forgotten = self._numbers(self._db)
                    number = before
                    seen: dict[RecordRef, int | None] = {}
                    has_gone = False
                    for change in changes:
                        number += 1
                        ref = change.ref
                        self._make(change, seen.get(ref, change.revision), number)
                        seen[ref] = None if change.record is None else number
                        has_gone = has_gone or change.record is None
                        done.append(Written(ref, number, number))
                    if has_gone:
                        forgotten = self._forget(forgotten)
                    self._db.execute("UPDATE numbers SET last=?, forgotten=?", (number, forgotten))
                    self._check_file()
                self._check_log(self._files.cut())
        except sqlite3.Error as error:
            kind = StoreFullError if _is_full(error) else StoreError
            raise kind(
                f"the controller cannot write to {self._path} ({error}); nothing was changed: {_way_out(error)}"
            ) from error
        self._newest = number
        self._own.append((before, number))
        start, end = self._alone
        self._alone = (start if end == before else before, number)
        return done

    def _make(self, change: Change, seen: int | None, number: int) -> None:
        kind, (namespace, name) = change.ref
        at = (kind.KIND, namespace, name)
        if change.record is None:
            made = self._db.execute(_REMOVE, (*at, seen)).rowcount
            self._db.execute("INSERT INTO gone VALUES (?, ?, ?, ?)", (number, *at))
        elif seen is None:
            spec = _text(change.record, Half.SPEC)
            made = self._db.execute(_MAKE, (*at, spec, number, number, change.request)).rowcount
        else:
            text = _text(change.record, change.half)
            made = self._db.execute(_SWAP[change.half], (text, number, change.request, *at, seen)).rowcount
        if not made:
            raise Conflict(change.ref)

    def _forget(self, forgotten: int) -> int:
        """Drop the oldest deleted records. Returns the revision up to which they are forgotten."""
        row = self._db.execute(
            "SELECT revision FROM gone ORDER BY revision DESC LIMIT 1 OFFSET ?", (MAX_DELETED,)
        ).fetchone()
        if row is None:
            return forgotten
        self._db.execute("DELETE FROM gone WHERE revision <= ?", row)
        return int(row[0])

    def watch(self, cursor: Cursor, seconds: float) -> WatchResult:
        """As `Store.watch`; may include the caller's own changes, later."""
        due = time.monotonic() + seconds
        version = None
        with self._watching:
            while True:
                try:
                    self._check_file()
                except StoreError:
                    self._keep_removed_log()
                    raise
                if version != (version := self._version()):
                    seen = self._since(self._watcher, cursor)
                    if seen.events:
                        return seen
                    cursor = seen.cursor
                left = due - time.monotonic()
                if left <= 0 or self._woken.wait(min(left, LOOK_SECONDS)):
                    self._woken.clear()
                    return WatchResult((), cursor)

    def _version(self) -> int:
        """Another one when another connection, which may be ours, has written something."""
        with self._reading(self._watcher, in_one=False):
            return int(self._watcher.execute("PRAGMA data_version").fetchone()[0])

    def newer(self, cursor: Cursor, kinds: Collection[type[Record]]) -> Sequence[StoreEvent]:
        """As `Store.newer`; includes the caller's own changes if others have written in between."""
        self._check_file()
        with self._lock:
            return [one for one in self._since(self._db, cursor).events if one.ref[0] in kinds]

    def _since(self, db: sqlite3.Connection, cursor: Cursor) -> WatchResult:
        if not isinstance(cursor, int):
            raise TooOldError
        with self._reading(db):
            last, forgotten = self._numbers(db)
            if self._is_alone(cursor, last) if db is self._db else self._is_own(cursor, last):
                return WatchResult((), last)
            rows = db.execute(_NEWER, (cursor,)).fetchall()
            gone = db.execute(_GONE, (cursor,)).fetchall()
        if not forgotten <= cursor <= last:
            raise TooOldError
        events = [
            StoreEvent((_KINDS[kind], Key(namespace, name)), number, None)
            for number, kind, namespace, name in gone
            if kind in _KINDS and number <= last
        ]
        for row in rows:
            if row[0] not in _KINDS:
                self._leave_alone(row)
                continue
            try:
                events.append(StoreEvent((_KINDS[row[0]], Key(row[1], row[2])), row[5], _stored(row, last)))
            except ValueError as error:
                self._warn(
                    row,
                    f"is not a valid record of a lab ({error}); it is not changed: "
                    "delete it, or the controller will not start",
                )
        return WatchResult(tuple(sorted(events, key=lambda one: one.revision)), last)

    def _leave_alone(self, row: _Row) -> None:
        """A row of a kind that no version up to this one writes: newer ones have another version of the file."""
        self._warn(row, "is no record of this program; it is left alone")

    def _warn(self, row: _Row, sentence: str) -> None:
        if hash(row) not in self._no_records:
            self._no_records.append(hash(row))
            _log.warning("%s %s/%s %s", *map(shown, row[:3]), sentence)

    def _is_alone(self, cursor: int, last: int) -> bool:
        """Whether nobody else has written between these: for who may be further behind than `watch`."""
        start, end = self._alone
        return start <= cursor <= last == end

    def _is_own(self, cursor: int, last: int) -> bool:
        """Whether nobody else has written between these; what we have written since `last` says nothing of it."""
        while self._own and self._own[0][1] <= cursor:
            self._own.popleft()
        own = [(max(start, cursor), min(end, last)) for start, end in list(self._own)]
        return 0 < last - cursor <= sum(end - start for start, end in own if end > start)

    def wake(self) -> None:
        """As `Store.wake`."""
        self._wakes += 1
        self._woken.set()

    @contextmanager
    def _reading(self, db: sqlite3.Connection, *, in_one: bool = True) -> Iterator[None]:
        """A read transaction: the block reads one consistent state."""
        try:
            with sqlite_errors():
                if in_one:
                    db.execute("BEGIN")
                try:
                    yield
                finally:
                    if db.in_transaction:
                        db.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreError(f"{self._path} cannot be read: {error}; {_way_out(error)}") from error

    def close(self) -> None:
        """As `Store.close`."""
        self.wake()
        with self._watching, self._lock:
            self._watcher.close()
            self._db.close()
            self._files.close()


def _stored(row: _Row, last: int) -> Stored:
    """The record in a row of a known kind. `last` is the newest revision. ValueError: the row is damaged."""
    kind = _KINDS[row[0]]
    spec, status, revision, age, request = row[3:]
    if revision is None or age is None or revision > last:
        raise ValueError(f"its revision {revision} or its age {age} was never given")
    if max(len(spec), len(status)) > (most := max_bytes(kind)):
        raise ValueError(f"it is larger than {most >> 10} KiB")
    found = decode_json(spec, dict[str, Any]) | decode_json(status, dict[str, Any])
    record = msgspec.convert({_FIELD_NAMES.get(name, name): value for name, value in found.items()}, kind)
    check_bounds(record)
    if record.key != row[1:3]:
        raise ValueError(f"in it, it is called {shown(str(record.key))}")
    return Stored(aged(record, age), revision, request)


def _text(record: Record, half: Half) -> str:
    """One half of a record as JSON, without default values."""
    usual = defaults_of(type(record))
    fields = {
        _STORED_NAMES.get(name, name): value
        for name, value in values_of(record, half).items()
        if name not in usual or value != usual[name]
    }
    return msgspec.json.encode(fields).decode()


def _words(ref: RecordRef) -> str:
    kind, key = ref
    return f"{kind.KIND} {shown(str(key))}"


def _is_full(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def _is_busy(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _way_out(error: Exception) -> str:
    """The next step for the user."""
    if is_denied(error):
        return "let the controller's user write to it and to its folder, and try again"
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return "make room on its disk and try again"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "end the program that has it open, and try again"
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return "choose another folder with --data, or restore a backup"
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
