"""What was written is there again, and only then."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from jumpstarter_controller.lab import (
    Client,
    ConditionType,
    Draft,
    Exporter,
    ExporterDevices,
    Host,
    Key,
    Lease,
    LeaseCondition,
    Policy,
    ReportedDevice,
    Rule,
)
from jumpstarter_controller.store import Change, Half, SqliteStore, StoreError, sqlite
from jumpstarter_controller.store.contract import MAX_HALF_BYTES, aged, key_of
from jumpstarter_controller.store.whole import fill, lab_of, overwrite

CLIENT = Client(namespace="lab", name="ann", uid="1", labels={"team": "ci"})
LEASE = Lease(
    namespace="lab",
    name="l",
    client="ann",
    selector="board=rpi4",
    duration=1.5,
    tags={"a": "b"},
    conditions=(LeaseCondition(ConditionType.READY, True, "Ready", "yes", 2.0),),
)
RECORDS = [
    CLIENT,
    LEASE,
    Exporter(namespace="lab", name="e", devices=2),
    Policy(namespace="lab", name="p", rules=(Rule(("a=b",), 3, 60.0),)),
    Host(namespace="lab", name="pi4", uid="2", labels={"site": "b"}, may_label=("host",)),
    Exporter(namespace="lab", name="pi4-a", host="pi4", said={"board": "a"}, gone_since=7.0),
]


def loaded(path: Path) -> Draft:
    with closing(SqliteStore(path)) as store:
        return lab_of(store)


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "lab.sqlite"
    store = SqliteStore(path)
    fill(store, *RECORDS)
    overwrite(store, {key_of(LEASE): None})
    store.close()
    lab = loaded(path)
    assert lab.get(Client, CLIENT.key) == CLIENT
    for record in RECORDS[2:]:
        assert lab.get(type(record), record.key) == record
    assert lab.get(Lease, LEASE.key) is None
    assert lab.changes() == {}
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


FAR_AWAY = '{"type":"Ready","holds":true,"reason":"","since":1e99}'
NO_RECORDS = [
    ("lease", "{}"),
    ("lease", "{"),
    ("lease", "[]"),
    ("lease", '{"new":' + "[" * 3000),
    ("lease", '{"namespace":"lab","name":"y","client":"ann"}'),
    ("lease", '{"namespace":"lab","name":"x","client":"ann","order":[]}'),
    ("lease", '{"namespace":"lab","name":"x","client":5}'),
    ("lease", '{"namespace":"lab","name":"x","client":"ann","duration":-1e300}'),
    ("lease", '{"namespace":"lab","name":"x","client":"ann","begin_time":1' + "0" * 400 + "}"),
    ("lease", '{"namespace":"lab","name":"x","client":"ann","duration":1' + "0" * 5000 + "}"),
    ("lease", '{"namespace":"lab","name":"x","client":"a","conditions":[' + FAR_AWAY + "]}"),
    ("exporter", '{"namespace":"lab","name":"x","devices":1' + "0" * 400 + "}"),
    ("policy", '{"namespace":"lab","name":"x","rules":[{"clients":[],"priority":1' + "0" * 30 + "}]}"),
    pytest.param(
        "client", f'{{"namespace":"lab","name":"x","username":"{"é" * (MAX_HALF_BYTES // 2)}"}}', id="large"
    ),
    pytest.param("policy", f'{{"namespace":"lab","name":"x","rules":[{"0," * 2**22}0]}}', id="large policy"),
]
"""What no code of ours writes: kind and body."""


@pytest.mark.parametrize(("kind", "body"), NO_RECORDS)
def test_a_damaged_record_is_named(tmp_path: Path, kind: str, body: str) -> None:
    path = tmp_path / "lab.sqlite"
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO records VALUES (?, 'lab', 'x', ?, '{}', 1, 1, '')", (kind, body))
        db.commit()
    with pytest.raises(StoreError, match=f"{kind} lab/x is damaged"):
        loaded(path)


def test_a_row_that_is_no_record_is_named_once_and_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "lab.sqlite"
    ann = Client(namespace="lab", name="ann", uid="1")
    with closing(SqliteStore(path)) as store:
        fill(store, ann)
        with closing(sqlite3.connect(path)) as db:
            row = ("strange\x1b", "lab", "x", "{}", "{}", 1, 1, "")
            db.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            db.commit()
        for whole in (True, False):
            found = store.snapshot(whole=whole)
            assert [stored.record for stored in found.records.values()] == [ann]
            assert not found.damaged
        fill(store, replace(ann, labels={"a": "b"}))
    (said,) = [one.getMessage() for one in caplog.records]
    assert said == "strange\\x1b lab/x is no record of this program; it is left alone"
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT * FROM records WHERE kind LIKE 'strange%'").fetchall() == [row]


@pytest.mark.parametrize(("kind", "body"), NO_RECORDS)
def test_a_damaged_record_of_an_older_version_is_named(tmp_path: Path, kind: str, body: str) -> None:
    path = tmp_path / "lab.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in OLD:
            db.execute(statement)
        db.execute("INSERT INTO records VALUES (?, 'lab', 'x', ?)", (kind, body))
    with pytest.raises(StoreError, match=f"{kind} lab/x is damaged"):
        loaded(path)


def test_no_database_and_a_newer_one_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("this is no database, it is a text file that is long enough to be read as one" * 20)
    with pytest.raises(StoreError, match="--data"):
        SqliteStore(text)
    with closing(sqlite3.connect(tmp_path / "new")) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(StoreError, match="newer version"):
        SqliteStore(tmp_path / "new")


OLD = (
    (
        "CREATE TABLE records (kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, "
        "body TEXT NOT NULL, PRIMARY KEY (kind, namespace, name)) WITHOUT ROWID"
    ),
    'INSERT INTO records VALUES (\'exporter\', \'lab\', \'e\', \'{"namespace":"lab","name":"e","devices":2}\')',
    "PRAGMA user_version=1",
)
"""A file of the schema's first version."""


def test_a_file_of_the_first_version_goes_up_by_itself_and_the_older_program_refuses_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "lab.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in OLD:
            db.execute(statement)
    assert loaded(path).get(Exporter, Key("lab", "e")) == Exporter(namespace="lab", name="e", devices=2)
    devices = ExporterDevices(
        namespace="lab", name="e", devices=(ReportedDevice("rpi4.power", "power"),), omitted=1
    )
    with closing(SqliteStore(path)) as store:
        fill(store, devices)
    assert loaded(path).get(ExporterDevices, devices.key) == devices
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (sqlite.SCHEMA,)
        assert sqlite.SCHEMA > 1, "it knows no devices"


def test_a_migration_that_is_cut_short_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lab.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in OLD:
            db.execute(statement)
    broken = (sqlite.MIGRATIONS[0], "DELETE FROM records", "no SQL")
    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "MIGRATIONS", broken)
        with pytest.raises(StoreError, match="cannot be opened"):
            SqliteStore(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
    assert loaded(path).count(Exporter) == 1


def test_a_full_disk_keeps_the_store_whole(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "lab.sqlite")
    fill(store, CLIENT)
    # SQLite's own limit stands for the disk's: the same error from the same call.
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count={pages}")
    many = [Lease(namespace="lab", name=f"l{n}", client="x" * 500) for n in range(100)]
    with pytest.raises(StoreError, match="nothing was changed"):
        fill(store, *many)
    store._db.execute("PRAGMA max_page_count=1000000")
    assert [one.name for one in lab_of(store).all(Client)] == ["ann"]
    assert not list(lab_of(store).all(Lease))
    fill(store, *many)
    assert lab_of(store).count(Lease) == 100
    store.close()


def test_each_failure_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    path = tmp_path / "lab.sqlite"
    store = SqliteStore(path)
    change = [Change(key_of(CLIENT), Half.SPEC, CLIENT, None)]
    store._db.execute("PRAGMA query_only=1")
    with pytest.raises(StoreError, match="let the controller's user write") as error:
        store.commit(change)
    assert error.value.status == "UNAVAILABLE"
    store._db.execute("PRAGMA query_only=0")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="end the program that has it open"):
            store.commit(change)
        other.execute("ROLLBACK")
    assert lab_of(store).count(Client) == 0
    store.commit(change)
    store.close()
    assert loaded(path).get(Client, CLIENT.key) == CLIENT


def test_a_write_that_fails_in_the_middle_is_undone_and_the_next_one_is_made(tmp_path: Path) -> None:
    path = tmp_path / "lab.sqlite"
    store = SqliteStore(path)
    fill(store, CLIENT)
    with pytest.raises(UnicodeEncodeError):  # a key that no service lets through
        fill(store, LEASE, Client(namespace="lab", name="\ud800"))
    assert lab_of(store).count(Lease) == 0
    fill(store, LEASE)
    store.close()
    lab = loaded(path)
    assert lab.get(Client, CLIENT.key) == CLIENT
    found = lab.get(Lease, LEASE.key)
    assert found is not None
    assert aged(found, 0) == LEASE


def open_files(folder: Path) -> set[str]:
    """What this process has open of a folder, and the folder itself."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one of this listing
            found.add(os.readlink(f"/proc/self/fd/{descriptor}"))
    return {path for path in found if path.startswith(str(folder))}


def test_a_store_that_is_closed_or_never_opened_holds_no_file(tmp_path: Path) -> None:
    path = tmp_path / "lab.sqlite"
    store = SqliteStore(path)
    fill(store, CLIENT)
    assert open_files(tmp_path) == {str(path), f"{path}-wal", f"{path}-shm"}
    store.close()
    assert open_files(tmp_path) == set()
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(StoreError, match="cannot be opened") as caught:
        SqliteStore(path)
    assert caught.value is not None, "nor do its frames keep what they had"
    assert open_files(tmp_path) == set()


def test_an_emptied_file_does_not_take_its_log_along(tmp_path: Path) -> None:
    path = tmp_path / "lab.sqlite"
    store = SqliteStore(path)
    fill(store, CLIENT)
    whole = path.read_bytes()
    path.write_bytes(b"")
    with pytest.raises(StoreError, match="restore a backup"):
        SqliteStore(path)
    path.write_bytes(whole)
    store.close()
    assert loaded(path).get(Client, CLIENT.key) == CLIENT


def test_a_first_start_that_was_cut_off_does_not_stop_the_next_one(tmp_path: Path) -> None:
    """SQLite writes the first page with a journal, whose header it fills in last."""
    path = tmp_path / "lab.sqlite"
    path.touch()
    path.with_name("lab.sqlite-journal").write_bytes(bytes(512))
    with closing(SqliteStore(path)) as store:
        fill(store, CLIENT)
    assert loaded(path).get(Client, CLIENT.key) == CLIENT


def test_a_page_that_is_there_twice_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "lab.sqlite"
    with closing(SqliteStore(path)) as store:
        fill(store, *(Lease(namespace="lab", name=f"l{number:03}", client="ann") for number in range(300)))
    doubled(path)  # SQLite 3.40 does not find it by quick_check, and 3.46 does
    with pytest.raises(StoreError, match=f"{path} is damaged .*; restore a backup"):
        SqliteStore(path)


def doubled(path: Path) -> None:
    """Overwrite a page of the records with another one of them."""
    body = bytearray(path.read_bytes())
    size = 4096
    first, second, *_ = (
        start
        for start in range(0, len(body), size)
        if body[start] == 0x0A and b'"namespace"' in body[start : start + size]
    )
    body[second : second + size] = body[first : first + size]
    path.write_bytes(body)


def without_schema(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE something (x)")


@pytest.mark.parametrize(
    ("left", "said"),
    [(lambda _: None, "is missing"), (Path.touch, "is empty"), (without_schema, "has no lab in it")],
)
def test_where_a_lab_was_no_empty_one_is_begun(
    tmp_path: Path, left: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "lab.sqlite"
    left(path)
    there = sorted(tmp_path.iterdir())
    with pytest.raises(StoreError, match=f"{path} {said}, but a lab was there; restore a backup, or move"):
        SqliteStore(path, create=False)
    assert sorted(tmp_path.iterdir()) == there
    SqliteStore(path).close()
    SqliteStore(path, create=False).close()


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_a_log_without_its_database_is_not_thrown_away(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "lab.sqlite"
    log = tmp_path / f"lab.sqlite{suffix}"
    log.write_bytes(b"the last changes")
    with pytest.raises(StoreError, match=f"{path} is missing and {log.name} is not.*restore a backup"):
        SqliteStore(path)
    assert list(tmp_path.iterdir()) == [log]


def test_text_that_is_no_utf_8_in_the_schema_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "lab.sqlite"
    SqliteStore(path).close()
    garbled(path, "numbers")
    with pytest.raises(StoreError, match=f"{path} cannot be opened.*not UTF-8; .*restore a backup"):
        SqliteStore(path)
    assert open_files(tmp_path) == set()


def garbled(path: Path, table: str) -> None:
    """Set a byte of its schema that is no UTF-8."""
    body = bytearray(path.read_bytes())
    body[body.index(b"CREATE TABLE " + table.encode()) + 2] = 0xCC
    path.write_bytes(body)


@pytest.mark.parametrize("order", ["9223372036854775808", "-1", "1e999"])
def test_an_age_that_was_never_given_in_an_older_version_is_named(tmp_path: Path, order: str) -> None:
    path = tmp_path / "lab.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in OLD:
            db.execute(statement)
        db.execute(
            "INSERT INTO records VALUES ('lease', 'lab', 'x', ?)",
            (f'{{"namespace":"lab","name":"x","client":"ann","order":{order}}}',),
        )
    with pytest.raises(StoreError, match=r"lease lab/x is damaged.*restore a backup"):
        SqliteStore(path)


CHILD = """
import sys
from pathlib import Path
from jumpstarter_controller.lab import Lease
from jumpstarter_controller.store import Change, Half, SqliteStore
from jumpstarter_controller.store.contract import key_of
store = SqliteStore(Path(sys.argv[1]))
number = len(store.snapshot().records)
while True:
    records = [Lease(namespace="lab", name=f"{number}-{half}", client="ann") for half in "ab"]
    store.commit([Change(key_of(record), Half.SPEC, record, None) for record in records])
    print(number, flush=True)
    number += 1
"""


def test_a_kill_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "lab.sqlite"
    for acknowledged in (3, 17, 40):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        last = -1
        for _ in range(acknowledged):
            last = int(child.stdout.readline())
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        store = SqliteStore(path)
        names = {lease.name for lease in lab_of(store).all(Lease)}
        store.close()
        assert f"{last}-a" in names
        halves = [name.rpartition("-")[0] for name in names]
        assert all(halves.count(half) == 2 for half in halves), "half of a write"
