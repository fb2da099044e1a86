"""What others do to the file of a store that has it open."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from jumpstarter_controller.lab import Client, Exporter, Key, Record
from jumpstarter_controller.store import Change, Half, SqliteStore, StoreError, sqlite
from jumpstarter_controller.store.contract import MAX_HALF_BYTES, key_of
from jumpstarter_controller.store.test_sqlite import OLD
from jumpstarter_controller.store.whole import fill, lab_of

WAIT = 30.0
ANN, BOB, EVE, FAY = (Client(namespace="lab", name=name, uid=name) for name in ("ann", "bob", "eve", "fay"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lab.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(path)) as store:
        fill(store, ANN)
        yield store


@pytest.fixture
def other(store: SqliteStore, path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(path)) as other:
        yield other


def making(record: Record) -> list[Change]:
    return [Change(key_of(record), Half.SPEC, record, None)]


def test_what_another_writes_while_we_write_is_seen(
    store: SqliteStore, other: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursor = store.snapshot().cursor
    other.commit(making(BOB))
    numbers = store._numbers

    def meanwhile(db: sqlite3.Connection) -> tuple[int, int]:
        found = numbers(db)
        if db is store._watcher:
            monkeypatch.undo()
            store.commit([*making(EVE), *making(FAY)])
        return found

    monkeypatch.setattr(store, "_numbers", meanwhile)
    refs: set[object] = set()
    while key_of(BOB) not in refs:
        seen = store.watch(cursor, 0)
        assert seen.events, "another's change was passed over"
        refs |= {one.ref for one in seen.events}
        cursor = seen.cursor


@pytest.mark.parametrize("numbers", [("soon", 1), (10**9, 1), (None, "old")])
def test_a_row_with_numbers_that_were_never_given_is_named_once_and_stops_nothing(
    store: SqliteStore,
    other: SqliteStore,
    path: Path,
    caplog: pytest.LogCaptureFixture,
    numbers: tuple[object, object],
) -> None:
    revision, age = numbers
    cursor = store.snapshot().cursor
    with closing(sqlite3.connect(path)) as db:
        (last,) = db.execute("UPDATE numbers SET last = last + 1 RETURNING last").fetchone()
        row = ("client", "lab", "eve", '{"namespace":"lab","name":"eve"}', "{}", revision or last, age, "")
        db.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        db.commit()
    for record in (BOB, FAY):
        other.commit(making(record))
        seen = store.watch(cursor, 0)
        assert [one.ref for one in seen.events] == [key_of(record)]
        cursor = seen.cursor
    assert caplog.text.count("client lab/eve is not a valid record") == 1
    for look in (store.snapshot, lambda: store.read(key_of(EVE))):
        with pytest.raises(StoreError, match="client lab/eve is damaged"):
            look()


LARGE = '{"namespace":"lab","name":"x","client":"ann","selector":"' + "x" * MAX_HALF_BYTES + '"}'


@pytest.mark.parametrize(
    ("name", "spec", "why"),
    [
        pytest.param("x", LARGE, "larger than 512 KiB", id="large"),
        pytest.param("x", LARGE * 40, "larger than 512 KiB", id="very large"),
        pytest.param(
            "x" * 254, '{"namespace":"lab","client":"ann","name":"' + "x" * 254 + '"}', "253 char", id="name"
        ),
        pytest.param(
            "y" * 10**7, '{"namespace":"lab","client":"ann","name":"x"}', "it is called lab/x", id="other"
        ),
        pytest.param("\x1b[2J", "{}", "missing required field", id="escape"),
        pytest.param(b"\xff", b"\xff", "malformed", id="no text"),
    ],
)
def test_no_more_of_a_row_is_read_than_shows_that_it_is_not_a_record(
    store: SqliteStore,
    other: SqliteStore,
    path: Path,
    *,
    caplog: pytest.LogCaptureFixture,
    name: str | bytes,
    spec: str | bytes,
    why: str,
) -> None:
    cursor = store.snapshot().cursor
    with closing(sqlite3.connect(path)) as db:
        (last,) = db.execute("UPDATE numbers SET last = last + 1 RETURNING last").fetchone()
        db.execute(
            "INSERT INTO records VALUES ('lease', 'lab', CAST(? AS TEXT), CAST(? AS TEXT), '{}', ?, 1, ?)",
            (name, spec, last, "r" * 10**7),
        )
        db.commit()
    for record in (BOB, FAY):
        other.commit(making(record))
        seen = store.watch(cursor, 0)
        assert [one.ref for one in seen.events] == [key_of(record)]
        cursor = seen.cursor
    (line,) = (
        one.getMessage() for one in caplog.records if "not a valid record of a lab" in one.getMessage()
    )
    assert why in line
    assert line.isprintable()
    assert len(line) < 1000
    (row,) = store._db.execute(f"{sqlite._ALL} WHERE kind='lease'").fetchall()
    assert sum(len(part) for part in row if isinstance(part, str | bytes)) <= MAX_HALF_BYTES + 1000
    with pytest.raises(StoreError, match="is damaged") as error:
        store.snapshot()
    assert len(str(error.value)) < 1000


def test_what_another_has_written_between_two_of_ours_is_newer(
    store: SqliteStore, other: SqliteStore
) -> None:
    cursor = store.snapshot().cursor
    store.commit(making(BOB))
    assert not store.newer(cursor, [Client])
    other.commit(making(EVE))
    store.commit(making(FAY))
    assert key_of(EVE) in {one.ref for one in store.newer(cursor, [Client])}
    assert not store.newer(cursor, [Exporter])
    assert not store.newer(store.snapshot().cursor, [Client])


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM numbers",
        "UPDATE numbers SET last = 'many'",
        "UPDATE numbers SET last = 9223372036854775807",
        "UPDATE numbers SET last = -9223372036854775808, forgotten = -9223372036854775808",
        "UPDATE numbers SET forgotten = 9223372036854775807",
    ],
)
def test_damaged_numbers_are_a_sentence(store: SqliteStore, path: Path, statement: str) -> None:
    cursor = store.snapshot().cursor
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
        db.commit()
    for use in (store.snapshot, lambda: store.watch(cursor, 0), lambda: store.commit(making(BOB))):
        with pytest.raises(StoreError, match=r"table of numbers is damaged.*restore a backup"):
            use()


def test_a_schema_that_becomes_no_text_while_the_controller_runs_is_a_sentence(
    store: SqliteStore, path: Path
) -> None:
    cursor = store.snapshot().cursor
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        (version,) = db.execute("PRAGMA schema_version").fetchone()
        db.execute("PRAGMA writable_schema=1")
        db.execute("UPDATE sqlite_master SET sql=CAST(x'4352cc' AS TEXT) WHERE name='numbers'")
        db.execute(f"PRAGMA schema_version={version + 1}")
    for use in (
        store.snapshot,
        lambda: store.read(key_of(ANN)),
        lambda: store.watch(cursor, 0),
        lambda: store.newer(cursor, [Client]),
        lambda: store.commit(making(BOB)),
    ):
        with pytest.raises(StoreError, match=r"not UTF-8.*restore a backup"):
            use()


def removed(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    os.replace(path.with_name("copy"), path)


def brought_back(path: Path) -> None:
    """As SQLite's own shell does with `.restore`, which puts another database into the same file."""
    with closing(sqlite3.connect(path.with_name("old"))) as old, closing(sqlite3.connect(path)) as db:
        old.backup(db)


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def index_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-shm")


def emptied(path: Path) -> None:
    os.truncate(log_of(path), 0)


def shortened(path: Path) -> None:
    os.truncate(log_of(path), 4096)


@pytest.mark.parametrize(
    ("happens", "said"),
    [
        (removed, r"lab\.sqlite does not exist any more"),
        (replaced, r"lab\.sqlite was replaced"),
        (brought_back, "an older copy"),
        (lambda path: removed(log_of(path)), r"lab\.sqlite-wal does not exist any more"),
        (lambda path: replaced(log_of(path)), r"lab\.sqlite-wal was replaced"),
        (lambda path: removed(index_of(path)), r"lab\.sqlite-shm does not exist any more"),
        (lambda path: replaced(index_of(path)), r"lab\.sqlite-shm was replaced"),
    ],
)
def test_nothing_is_acknowledged_that_nobody_would_find(
    store: SqliteStore, path: Path, happens: Callable[[Path], None], said: str
) -> None:
    with closing(sqlite3.connect(path)) as db, closing(sqlite3.connect(path.with_name("old"))) as old:
        db.backup(old)
    store.commit(making(BOB))
    cursor = store.snapshot().cursor
    happens(path)
    with pytest.raises(StoreError, match=f"{said}.*restart the controller"):
        store.commit(making(EVE))
    with pytest.raises(StoreError, match=said):
        store.watch(cursor, 0)


def test_a_log_that_somebody_has_emptied_does_not_take_the_database_along(
    store: SqliteStore, path: Path
) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")
    store.commit(making(BOB))
    emptied(path)
    for record in (EVE, FAY):
        with pytest.raises(StoreError, match="was shortened"):
            store.commit(making(record))
    store.close()
    with closing(SqliteStore(path)) as again:
        assert [one.name for one in lab_of(again).all(Client)] == ["ann"]


@pytest.mark.parametrize("happens", [emptied, shortened])
def test_nothing_is_acknowledged_behind_a_log_that_somebody_has_shortened(
    store: SqliteStore, path: Path, happens: Callable[[Path], None]
) -> None:
    store.commit(making(BOB))
    happens(path)
    for record in (EVE, FAY):
        with pytest.raises(StoreError, match=r"lab\.sqlite-wal was shortened.*restart the controller"):
            store.commit(making(record))


def test_a_log_that_is_emptied_while_a_change_is_written_into_it_is_noticed(
    store: SqliteStore, path: Path
) -> None:
    class Changes(list[Change]):
        def __iter__(self) -> Iterator[Change]:
            """In the middle of the transaction."""
            emptied(path)
            return super().__iter__()

    store.commit(making(BOB))
    with pytest.raises(
        StoreError, match="was shortened while the controller runs, so the last changes are lost"
    ):
        store.commit(Changes(making(EVE)))


LIMIT_OTHERS = (
    "PRAGMA journal_size_limit=0",
    "PRAGMA wal_checkpoint(RESTART)",
    "UPDATE numbers SET last=last+1",
)
MANY = [Client(namespace="lab", name=f"c{number}", uid="x" * 2000) for number in range(60)]


@pytest.mark.parametrize(
    "statements",
    [
        ["PRAGMA wal_checkpoint(PASSIVE)"],
        ["PRAGMA wal_checkpoint(RESTART)"],
        ["PRAGMA wal_checkpoint(TRUNCATE)"],
        ["PRAGMA wal_checkpoint(TRUNCATE)", "UPDATE numbers SET last=last+1"],
        LIMIT_OTHERS,
        ["VACUUM"],
        ["PRAGMA journal_mode=DELETE"],
    ],
)
def test_what_other_programs_may_do_to_the_log_stops_nothing(
    store: SqliteStore, path: Path, statements: Sequence[str]
) -> None:
    """In a process of its own, as SQLite's locks are between processes."""
    for record in MANY:
        store.commit(making(record))
    cursor = store.snapshot().cursor
    run = (
        "import sqlite3, sys, contextlib\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "for one in sys.argv[2:]:\n"
        "    with contextlib.suppress(sqlite3.OperationalError):\n"
        "        db.execute(one).fetchall()\n"
        "db.close()\n"
    )
    subprocess.run([sys.executable, "-c", run, str(path), *statements], check=True)
    for record in (BOB, EVE):
        store.commit(making(record))
    assert isinstance(cursor, int)
    store.watch(cursor, 0)
    with closing(SqliteStore(path)) as other:
        assert {one.name for one in lab_of(other).all(Client)} >= {"ann", "bob", "eve", "c59"}


ACKNOWLEDGING = """
import sys
from pathlib import Path
from jumpstarter_controller.lab import Client
from jumpstarter_controller.store import Change, Half, SqliteStore, StoreError
from jumpstarter_controller.store.contract import key_of
store = SqliteStore(Path(sys.argv[1]))
for number, line in enumerate(sys.stdin):
    record = Client(namespace="lab", name=f"c{number}", uid="1")
    try:
        store.commit([Change(key_of(record), Half.SPEC, record, None)])
        print(record.name, flush=True)
    except StoreError as error:
        print(error, flush=True)
    try:
        store.watch(store.snapshot().cursor, 0)
    except StoreError:
        pass
"""


def test_what_was_acknowledged_before_the_log_was_removed_survives_a_kill(path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", ACKNOWLEDGING, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write("\n\n")
        assert [child.stdout.readline(), child.stdout.readline()] == ["c0\n", "c1\n"]
        log_of(path).unlink()
        for _ in range(2):  # the first answer of the second one comes after the first one's look
            child.stdin.write("\n")
            assert "lab.sqlite-wal does not exist any more" in child.stdout.readline()
    finally:
        child.kill()
        child.communicate()
    with closing(SqliteStore(path)) as store:
        assert {one.name for one in lab_of(store).all(Client)} == {"c0", "c1"}


def test_a_database_may_be_a_link_to_another_folder(path: Path) -> None:
    real = path.parent / "disk" / "lab"
    real.parent.mkdir()
    path.symlink_to(real)
    with closing(SqliteStore(path)) as store:
        store.commit(making(ANN))
        assert log_of(real).stat().st_mode & 0o777 == 0o600
        log_of(real).unlink()
        with pytest.raises(StoreError, match=f"{real}-wal does not exist any more"):
            store.commit(making(BOB))
    real.unlink()
    log_of(real).write_bytes(b"the last changes")
    with pytest.raises(StoreError, match=f"{path} is missing and lab-wal is not"):
        SqliteStore(path)


def test_two_that_open_a_file_of_an_older_version_at_once_bring_it_up_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in OLD:
            db.execute(statement)
    migrate = SqliteStore._migrate

    def second(store: SqliteStore) -> None:
        monkeypatch.undo()
        SqliteStore(path).close()
        migrate(store)

    monkeypatch.setattr(sqlite.SqliteStore, "_migrate", second)
    with closing(SqliteStore(path)) as store:
        assert lab_of(store).get(Exporter, Key("lab", "e")) is not None


def test_who_waits_to_write_gives_up_when_the_store_is_closed(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 3600.0)
    tries = threading.Semaphore(0)
    store._db.set_trace_callback(lambda statement: tries.release() if "BEGIN" in statement else None)
    ends: list[str] = []

    def write() -> None:
        with pytest.raises(StoreError, match="end the program that has it open") as refused:
            store.commit(making(BOB))
        ends.append(str(refused.value))

    writer = threading.Thread(target=write)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        writer.start()
        for _ in range(2):  # it has waited, and goes on waiting
            assert tries.acquire(timeout=WAIT)
        store.close()
        writer.join(WAIT)
    assert len(ends) == 1


def test_who_waits_to_write_looks_now_and_then_and_reads_wait_as_long_as_before(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asked without a pause would have a processor for itself while a backup is made."""

    def patience() -> list[tuple[int]]:
        return [db.execute("PRAGMA busy_timeout").fetchone() for db in (store._db, store._watcher)]

    before = patience()
    assert before == [(sqlite.BUSY_SECONDS * 1000,)] * 2
    fill(store, EVE)
    assert patience() == before
    looks, seconds = [], 3 * sqlite.LOOK_SECONDS
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", seconds)
    store._db.set_trace_callback(lambda statement: looks.append(statement) if "BEGIN" in statement else None)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="end the program that has it open"):
            store.commit(making(BOB))
    assert 0 < len(looks) <= seconds / sqlite.LOOK_SECONDS + 1
    assert patience()[0] == (seconds * 1000,)


def test_who_waits_to_write_does_when_it_can(store: SqliteStore, path: Path) -> None:
    tries = threading.Semaphore(0)
    store._db.set_trace_callback(lambda statement: tries.release() if "BEGIN" in statement else None)
    writer = threading.Thread(target=store.commit, args=[making(BOB)])
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        writer.start()
        for _ in range(2):
            assert tries.acquire(timeout=WAIT)
        db.execute("ROLLBACK")
    writer.join(WAIT)
    assert lab_of(store).get(Client, BOB.key) == BOB
