"""What is backed up comes back, whole or with a sentence; what was taken away meanwhile does not."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import pytest
from jumpstarter_proto.errors import JumpstarterError
from msgspec.structs import replace

from jumpstarter_controller.backups import BackupError, archive, read_backup, restore, write_backup
from jumpstarter_controller.backups.archive import KEPT_FILES, SECRETS, load
from jumpstarter_controller.identity import random_key, signing_key
from jumpstarter_controller.lab import Client, Drain, Exporter, Host, Key, Lease, PairingCode, Policy, Record
from jumpstarter_controller.process.certificates import own_certificate
from jumpstarter_controller.process.data_folder import Addresses, DataError, DataFolder
from jumpstarter_controller.store import SqliteStore
from jumpstarter_controller.store.contract import aged
from jumpstarter_controller.store.test_sqlite import doubled, garbled, without_schema
from jumpstarter_controller.store.whole import fill, overwrite

ANN = Client(namespace="lab", name="ann", uid="ann-1", labels={"team": "ci"})
BOB = Client(namespace="lab", name="bob", uid="bob-1")
EVE = Client(namespace="lab", name="eve", uid="eve-1", username="oidc:eve")
BOARD = Exporter(namespace="lab", name="rpi4", uid="rpi4-1", labels={"board": "rpi4"}, devices=2)
SPARE = Exporter(namespace="lab", name="spare", uid="spare-1", username="oidc:spare")
HOST = Host(namespace="lab", name="pi4", uid="pi4-1")
POLICY = Policy(namespace="lab", name="all", exporters="board=rpi4")
CODE = PairingCode(
    namespace="lab", name="c", kind="Client", subject="new", digest="d", expires=9e9, created=1.0
)
ACTIVE = Lease(
    namespace="lab",
    name="active",
    uid="l1",
    client="ann",
    exporter="rpi4",
    begun=1.0,
    duration=9e9,
    sequence=1,
)
WAITING = Lease(namespace="lab", name="waiting", uid="l2", client="bob", selector="board=rpi4", sequence=2)
ENDED = Lease(namespace="lab", name="ended", uid="l3", client="bob", ended=5.0, sequence=3)
ALL = (ANN, BOB, EVE, BOARD, SPARE, HOST, POLICY, CODE, ACTIVE, WAITING, ENDED)


def write(folder: DataFolder, records: Iterable[Record], gone: Iterable[Record] = ()) -> None:
    """As a controller does, that runs on the folder."""
    store = SqliteStore(folder.database)
    overwrite(
        store, {(type(one), one.key): one for one in records} | {(type(one), one.key): None for one in gone}
    )
    store.close()


def open_files(folder: Path) -> set[str]:
    """What this process has open of a folder."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one of this listing
            found.add(os.readlink(f"/proc/self/fd/{descriptor}"))
    return {path for path in found if path.startswith(str(folder))}


@pytest.fixture
def lab(tmp_path: Path) -> DataFolder:
    """The data folder of a controller that has run."""
    folder = DataFolder(tmp_path / "data")
    folder.prepare()
    own_certificate(folder.path, ["lab"])
    signing_key(folder.signing_key)
    random_key(folder.router_key)
    folder.remember(Addresses("lab:8082"))
    write(folder, ALL)
    return folder


def ageless(record: Record | None) -> Record | None:
    """The store says which of two leases is older, and says it anew."""
    return record and aged(record, 0)


def content(folder: Path) -> dict[str, bytes]:
    return {
        file.name: file.read_bytes() for file in folder.iterdir() if file.is_file() and file.name != "lock"
    }


def test_a_lab_comes_back_on_another_machine_as_itself_but_for_pairing_codes(
    lab: DataFolder, tmp_path: Path
) -> None:
    made = write_backup(lab, tmp_path / "lab.backup")
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "lab.backup"]
    assert made.about.counts["client"] == 3
    other = DataFolder(tmp_path / "other")
    done = restore(other, made.path)
    assert done.kept is None
    assert [file for file in content(lab.path) if not file.startswith("lab")] == [
        file for file in content(other.path) if not file.startswith("lab")
    ]
    for name in (*SECRETS, "tls.crt", "addresses.json"):
        assert (other.path / name).read_bytes() == (lab.path / name).read_bytes()
        assert stat.S_IMODE((other.path / name).stat().st_mode) == 0o600
    found = load(other.database)
    for record in ALL:
        assert ageless(found.get(type(record), record.key)) == (None if record is CODE else ageless(record))
    codes, unknown = done.sentences
    assert "client lab/new" in codes
    assert "there is none" in unknown
    keys = (lab.path / "tokens.key").read_bytes()
    assert keys not in other.database.read_bytes(), "a key stayed in the database"


def test_a_backup_has_what_was_written_before_it_and_what_is_only_in_the_log(
    lab: DataFolder, tmp_path: Path
) -> None:
    store = SqliteStore(
        lab.database
    )  # a controller that runs, and has not moved anything out of SQLite's log
    leases = [replace(WAITING, name=f"n{number}") for number in range(50)]
    try:
        for number, lease in enumerate(leases):
            fill(store, lease)
            if number == 24:
                write_backup(lab, tmp_path / "half")
        assert lab.database.with_name("lab.sqlite-wal").stat().st_size
        write_backup(lab, tmp_path / "whole")
    finally:
        store.close()
    for name, last in (("half", 25), ("whole", 50)):
        other = DataFolder(tmp_path / f"from-{name}")
        restore(other, tmp_path / name)
        names = {lease.name for lease in load(other.database).all(Lease)}
        assert names - {"active", "waiting", "ended"} == {lease.name for lease in leases[:last]}


def test_what_is_there_is_not_overwritten_unless_told_to(lab: DataFolder, tmp_path: Path) -> None:
    target = tmp_path / "lab.backup"
    target.write_text("precious")
    with pytest.raises(BackupError, match="--overwrite"):
        write_backup(lab, target)
    assert target.read_text() == "precious"
    write_backup(lab, target, overwrite=True)
    assert read_backup(target).about.counts["exporter"] == 2
    for bad, words in (
        (tmp_path, "not a file"),
        (tmp_path / "none" / "x", "is not a folder"),
        (Path("/dev/null"), "not a file"),
    ):
        with pytest.raises(BackupError, match=words):
            write_backup(lab, bad, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "lab.backup"]


def test_a_name_that_somebody_takes_meanwhile_is_theirs(
    lab: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "lab.backup"
    link = os.link

    def taken(source: Path, name: Path) -> None:
        target.write_text("precious")
        link(source, name)

    monkeypatch.setattr(os, "link", taken)
    with pytest.raises(BackupError, match="--overwrite"):
        write_backup(lab, target)
    assert target.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "lab.backup"]


def test_there_is_no_backup_of_a_lab_that_is_none_or_is_damaged(lab: DataFolder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has not run yet"):
        write_backup(DataFolder(tmp_path / "none"), tmp_path / "b")
    with closing(sqlite3.connect(lab.database)) as db:
        db.execute(
            "INSERT INTO records SELECT 'strange', namespace, name, spec, status, 0, 0, '' FROM records LIMIT 1"
        )
        db.commit()
    write_backup(lab, tmp_path / "b")
    (tmp_path / "b").unlink()
    with closing(sqlite3.connect(lab.database)) as db:
        db.execute("UPDATE records SET spec = 'x' WHERE kind = 'client' AND name = 'ann'")
        db.commit()
    with pytest.raises(JumpstarterError, match=r"client lab/ann is damaged"):
        write_backup(lab, tmp_path / "b")
    with closing(sqlite3.connect(lab.database)) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(BackupError, match="newer version"):
        write_backup(lab, tmp_path / "b")
    lab.database.unlink()
    with pytest.raises(DataError, match="restore a backup first"):
        write_backup(lab, tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_backup_that_is_not_whole_is_refused_and_nothing_is_changed(
    lab: DataFolder, tmp_path: Path
) -> None:
    path = write_backup(lab, tmp_path / "b").path
    whole = path.read_bytes()
    middle = len(whole) // 2
    at = whole.index(b"team")
    before = content(lab.path)
    for damaged in (
        b"",
        whole[:middle],
        whole[: middle // 4096 * 4096],
        whole[:100],
        os.urandom(len(whole)),
        whole[:at] + b"lane" + whole[at + 4 :],  # a file that SQLite finds nothing wrong with
        lab.database.read_bytes(),
    ):
        path.write_bytes(damaged)
        with pytest.raises(BackupError, match=r"use another one|not a backup"):
            restore(lab, path)
        assert content(lab.path) == before
    with pytest.raises(BackupError, match="no file"):
        restore(lab, tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BackupError, match="no file"):
        restore(lab, tmp_path / "pipe")
    assert [one.name for one in lab.path.iterdir() if one.is_dir()] == []


def test_a_backup_with_a_file_of_another_name_and_one_of_a_newer_format_are_refused(
    lab: DataFolder, tmp_path: Path
) -> None:
    path = write_backup(lab, tmp_path / "b").path
    about = read_backup(path).about
    whole = path.read_bytes()
    for name, number, words in (("../tokens.key", 1, "no backup has"), ("tls.before.crt", 2, "is newer")):
        path.write_bytes(whole)
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("INSERT INTO backup_files VALUES (?, x'00')", (name,))
            forged = msgspec.structs.replace(about, format=number, digest=archive._digest(db))
            db.execute("UPDATE backup SET about=?", (msgspec.json.encode(forged).decode(),))
        with pytest.raises(BackupError, match=words):
            restore(lab, path)
    assert not (tmp_path / "tokens.key").exists()


def test_a_backup_of_a_newer_version_is_refused(lab: DataFolder, tmp_path: Path) -> None:
    path = write_backup(lab, tmp_path / "b").path
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(BackupError, match="newer version"):
        restore(lab, path)


def test_revoked_tokens_stay_revoked_and_leases_are_as_they_are_now(lab: DataFolder, tmp_path: Path) -> None:
    path = write_backup(lab, tmp_path / "b").path
    new_lease = replace(WAITING, name="new", client="ann", sequence=4)
    moved = replace(WAITING, exporter="rpi4", begun=7.0)
    made = Client(namespace="lab", name="new", uid="new-1")
    theirs = replace(WAITING, name="theirs", client="new", sequence=5)
    changed = replace(BOARD, uid="rpi4-2", labels={"board": "other"}, devices=3)
    write(
        lab,
        [
            replace(ANN, uid="ann-2", labels={}),
            replace(HOST, uid="pi4-2"),
            changed,
            made,
            theirs,
            replace(ACTIVE, ended=6.0),
            moved,
            new_lease,
        ],
        gone=[BOB, EVE, SPARE, POLICY, ENDED],
    )
    done = restore(lab, path)
    found = load(lab.database)
    assert found.get(Client, ANN.key) == replace(ANN, uid="ann-2")
    assert found.get(Host, HOST.key) == replace(HOST, uid="pi4-2")
    assert found.get(Exporter, BOARD.key) == replace(changed, labels=BOARD.labels)
    assert found.get(Policy, POLICY.key) == POLICY
    bob, eve = found.get(Client, BOB.key), found.get(Client, EVE.key)
    assert bob is not None
    assert eve is not None
    assert bob.uid not in {"bob-1", ""}
    assert bob.enabled
    spare = found.get(Exporter, SPARE.key)
    assert spare is not None
    assert not eve.enabled, "who is let in by another issuer's token"
    assert not spare.enabled, "the same"
    assert found.get(Client, made.key) is None
    leases = {lease.name: lease for lease in found.all(Lease)}
    assert leases["active"].ended == 6.0
    assert ageless(leases["waiting"]) == ageless(moved)
    assert ageless(leases["new"]) == ageless(new_lease)
    assert leases["active"].sequence < leases["waiting"].sequence < leases["new"].sequence
    said = "\n".join(done.sentences)
    for words in (
        "clients that got new tokens after the backup keep them, and the old ones stay revoked: lab/ann",
        "clients that were deleted after the backup are there again",
        "their old tokens are invalid: lab/bob, lab/eve",
        "disabled: lab/eve",
        "hosts that got new tokens",
        "exporters that got new tokens",
        "exporters that were deleted after the backup are there again",
        "users of another issuer are disabled: lab/spare",
        "clients that were made after the backup are gone: lab/new",
        "leases end, as their client or exporter was made after the backup: lab/theirs",
        "make new ones for client lab/new",
    ):
        assert words in said, said
    assert "cannot be read" not in said


def test_exactly_names_the_tokens_that_are_valid_again(lab: DataFolder, tmp_path: Path) -> None:
    path = write_backup(lab, tmp_path / "b").path
    write(
        lab,
        [replace(ANN, uid="ann-2"), replace(BOARD, enabled=False), replace(ACTIVE, ended=6.0)],
        gone=[BOB],
    )
    done = restore(lab, path, exactly=True)
    found = load(lab.database)
    for record in ALL:
        assert ageless(found.get(type(record), record.key)) == (None if record is CODE else ageless(record))
    said = "\n".join(done.sentences)
    for words in (
        "new token after the backup are as they were",
        "deleted after the backup",
        "disabled after",
    ):
        assert words in said
    assert all(name in said for name in ("lab/ann", "lab/bob", "lab/rpi4"))


@pytest.mark.parametrize("damage", ["noise", "newer", "absent", "schema", "no schema"])
def test_where_the_present_data_cannot_be_read_the_tokens_are_said_to_be_valid_again(
    lab: DataFolder, tmp_path: Path, damage: str
) -> None:
    path = write_backup(lab, tmp_path / "b").path
    write(lab, [replace(ANN, uid="ann-2")])
    if damage == "noise":
        lab.database.write_bytes(b"noise" * 1000)
    elif damage == "schema":
        garbled(lab.database, "numbers")
    elif damage == "no schema":
        lab.database.unlink()
        without_schema(lab.database)
    elif damage == "newer":
        with closing(sqlite3.connect(lab.database)) as db:
            db.execute("PRAGMA user_version=99")
    else:
        lab.database.unlink()
    there = content(lab.path)
    done = restore(lab, path)
    assert load(lab.database).get(Client, ANN.key) == ANN
    assert "valid again" in done.sentences[-1]
    assert done.kept is not None
    if damage == "newer":  # SQLite has closed its log in it
        with closing(sqlite3.connect(done.kept / "lab.sqlite")) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (99,)
    else:
        assert content(done.kept) == there
    assert str(tmp_path) not in done.sentences[-1].replace(str(lab.path), "")


def test_the_present_data_is_kept_as_a_data_folder_of_its_own(lab: DataFolder, tmp_path: Path) -> None:
    path = write_backup(lab, tmp_path / "b").path
    write(lab, [replace(ANN, uid="ann-2")])
    done = restore(lab, path)
    assert done.kept is not None
    assert done.kept.parent == lab.path
    assert stat.S_IMODE(done.kept.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in done.kept.iterdir())
    again = write_backup(DataFolder(done.kept), tmp_path / "again")
    restore(DataFolder(tmp_path / "third"), again.path)
    ann = load(tmp_path / "third" / "lab.sqlite").get(Client, Key("lab", "ann"))
    assert ann is not None
    assert ann.uid == "ann-2"


def test_nothing_is_restored_beside_a_controller_or_somebody_who_has_the_database_open(
    lab: DataFolder, tmp_path: Path
) -> None:
    path = write_backup(lab, tmp_path / "b").path
    before = content(lab.path)
    with lab.locked(), pytest.raises(BackupError, match="stop it first"):
        restore(lab, path)
    with closing(sqlite3.connect(lab.database)) as other:
        other.execute("SELECT count(*) FROM records").fetchall()
        with pytest.raises(BackupError, match="some program has"):
            restore(lab, path)
    after = content(lab.path)
    assert {name: after[name] for name in before} == before
    restore(lab, path)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_a_lab_is_drained_after_a_restore_if_it_is_now_and_that_is_said(
    lab: DataFolder, tmp_path: Path, *, before: bool, after: bool
) -> None:
    drain = Drain(namespace=Drain.KEY.namespace, name=Drain.KEY.name)
    write(lab, [drain] if before else [])
    path = write_backup(lab, tmp_path / "b").path
    write(lab, [drain] if after else [], gone=[] if after else [drain])
    for exactly, expected in ((False, after), (True, before)):
        done = restore(lab, path, exactly=exactly)
        assert (load(lab.database).get(Drain, Drain.KEY) is not None) == expected
        assert any("the lab is drained" in one for one in done.sentences) == expected


def test_of_present_data_with_damaged_records_the_others_are_used(lab: DataFolder, tmp_path: Path) -> None:
    path = write_backup(lab, tmp_path / "b").path
    write(lab, [replace(BOB, uid="bob-2"), replace(ACTIVE, client="bob")])
    with closing(sqlite3.connect(lab.database)) as db:
        db.execute("UPDATE records SET spec = 'x' WHERE kind = 'client' AND name = 'ann'")
        db.execute("UPDATE records SET status = '{' WHERE kind = 'lease' AND name = 'waiting'")
        db.execute("INSERT INTO records VALUES ('strange', 'lab', 'x', '{}', '{}', 1, 1, '')")
        db.commit()
    done = restore(lab, path)
    assert done.sentences[0] == (
        "records of the present data that are damaged count as deleted: client lab/ann, lease lab/waiting"
    )
    assert "valid again" not in "".join(done.sentences)
    found = load(lab.database)
    clients = {one.name: one.uid for one in found.all(Client)}
    assert clients["bob"] == "bob-2"
    assert clients["ann"] not in {"", ANN.uid}, "a revoked token may be valid again"
    leases = {one.name: one for one in found.all(Lease)}
    assert (leases["active"].client, leases["active"].ended) == ("bob", None)
    assert "waiting" not in leases


def test_a_lab_that_was_begun_anew_is_not_believed(lab: DataFolder, tmp_path: Path) -> None:
    """As versions before made one where the database was missing."""
    path = write_backup(lab, tmp_path / "b").path
    lab.database.unlink()
    write(lab, [replace(ANN, uid="ann-of-the-new-lab")])
    done = restore(lab, path)
    found = load(lab.database)
    for record in ALL:
        assert ageless(found.get(type(record), record.key)) == (None if record is CODE else ageless(record))
    assert "is another lab" in done.sentences[-1]
    assert "valid again" in done.sentences[-1]


def test_a_lab_from_which_everything_was_deleted_is_believed(lab: DataFolder, tmp_path: Path) -> None:
    path = write_backup(lab, tmp_path / "b").path
    write(lab, [], gone=ALL)
    restore(lab, path)
    found = load(lab.database)
    ann = found.get(Client, ANN.key)
    assert ann is not None
    assert ann.uid != ANN.uid, "a revoked token is valid again"
    assert all(lease.ended is not None for lease in found.all(Lease)), "a lease is there again"


def test_an_emptied_database_keeps_its_log_for_whoever_repairs_it(lab: DataFolder, tmp_path: Path) -> None:
    path = write_backup(lab, tmp_path / "b").path
    lab.database.write_bytes(b"")
    log = lab.path / "lab.sqlite-wal"
    log.write_bytes(b"the last changes")
    done = restore(lab, path)
    assert done.kept is not None
    assert (done.kept / log.name).read_bytes() == b"the last changes"
    assert load(lab.database).get(Client, ANN.key) == ANN


HOT = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode=DELETE")
db.execute("PRAGMA cache_size=1")
db.execute("BEGIN")
db.execute("UPDATE records SET request = hex(zeroblob(20000))")
os._exit(0)
"""


@pytest.mark.parametrize("is_there", [False, True])
def test_the_journal_that_another_program_has_left_does_not_get_into_what_is_restored(
    lab: DataFolder, tmp_path: Path, *, is_there: bool
) -> None:
    path = write_backup(lab, tmp_path / "b").path
    subprocess.run([sys.executable, "-c", HOT, str(lab.database)], check=True)
    journal = lab.path / "lab.sqlite-journal"
    left = journal.read_bytes()
    assert left
    if not is_there:
        lab.database.unlink()
    done = restore(lab, path)
    assert not journal.exists()
    assert load(lab.database).get(Client, ANN.key) == ANN
    assert done.kept is not None
    if is_there:  # what was half written was undone
        assert load(done.kept / "lab.sqlite").get(Client, ANN.key) == ANN
    else:
        assert (done.kept / journal.name).read_bytes() == left


def test_a_database_that_loses_records_is_not_backed_up(lab: DataFolder, tmp_path: Path) -> None:
    write(lab, [replace(WAITING, name=f"l{number:03}") for number in range(300)])
    doubled(lab.database)
    with pytest.raises(BackupError, match=f"{lab.database} is damaged .*; keep the backups that there are"):
        write_backup(lab, tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("name", ["x" * 300, "x" * 201, "é" * 101])
def test_a_name_that_is_too_long_is_a_sentence(lab: DataFolder, tmp_path: Path, name: str) -> None:
    with pytest.raises(BackupError, match="at most 200 bytes; choose a shorter one"):
        write_backup(lab, tmp_path / name)
    with pytest.raises(BackupError, match=r"no file|File name too long"):
        restore(lab, tmp_path / name)
    with pytest.raises(BackupError, match="File name too long"):
        write_backup(lab, tmp_path / ("x" * 300) / "b")
    write_backup(lab, tmp_path / ("x" * 200))


def test_a_name_may_have_any_bytes(lab: DataFolder, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"b\xff?#%41")
    write_backup(lab, path)
    other = DataFolder(tmp_path / os.fsdecode(b"other\xff"))
    restore(other, path)
    assert load(other.database).get(Client, ANN.key) == ANN


@pytest.mark.parametrize("note", [b"before-\xff", b"\0" * 20, b"before-restore-20200101T000000", b"../data"])
def test_a_note_of_a_restore_that_cannot_be_read_says_what_to_do(
    lab: DataFolder, tmp_path: Path, note: bytes
) -> None:
    path = write_backup(lab, tmp_path / "b").path
    lab.restoring.write_bytes(note)
    before = content(lab.path)
    with pytest.raises(BackupError, match=f"{lab.restoring} does not say.*or empty it if there is none"):
        restore(lab, path)
    assert content(lab.path) == before
    lab.restoring.write_bytes(b"")
    restore(lab, path)
    lab.check_whole()


@pytest.mark.parametrize(
    "name", ["lab.sqlite", "lab.sqlite-wal", "lab.sqlite-journal", "tokens.key", "restoring"]
)
def test_a_folder_where_a_file_should_be_is_named(lab: DataFolder, tmp_path: Path, name: str) -> None:
    path = write_backup(lab, tmp_path / "b").path
    (lab.path / name).unlink(missing_ok=True)
    (lab.path / name).mkdir()
    with pytest.raises(BackupError, match=f"{lab.path / name} is a folder.*move it away"):
        restore(lab, path)
    (lab.path / name).rmdir()
    restore(lab, path)


STEPS = ("rename", "replace", "unlink", "mkdir")
"""What changes the names of files."""


def cut_short(folder: DataFolder, path: Path, left: int) -> bool:
    """Whether a restore ends before so many steps, in a process that is killed before the next one."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) == 9

    def counted(original: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            nonlocal left
            left -= 1
            return os._exit(9) if left < 0 else original(*arguments, **options)

        return call

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))
    try:
        restore(folder, path)
    finally:
        os._exit(0)


def test_a_restore_that_is_cut_short_at_any_step_is_run_again_and_no_controller_starts_before(
    lab: DataFolder, tmp_path: Path
) -> None:
    path = write_backup(lab, tmp_path / "b").path
    (lab.path / "tokens.key").unlink()
    signing_key(lab.signing_key)  # of another lab than the backup's
    write(lab, [replace(ANN, uid="ann-2", labels={})], gone=[BOB])
    before = content(lab.path)
    marked = steps = 0
    while True:
        folder = DataFolder(tmp_path / f"cut-{steps}")
        folder.prepare()
        for name, body in before.items():
            (folder.path / name).write_bytes(body)
            (folder.path / name).chmod(0o600)
        if not cut_short(folder, path, steps):
            break
        cut_there = folder.restoring.exists()
        if cut_there:
            with pytest.raises(DataError, match="run it again"):
                folder.check_whole()
        else:
            there = load(folder.database)
            ann = there.get(Client, ANN.key)
            assert ann is not None
            # All of the old, or all of the new.
            is_old = ann.labels == {}
            assert (there.get(Client, BOB.key) is None) == is_old
            assert ((folder.path / "tokens.key").read_bytes() == before["tokens.key"]) == is_old
        marked += cut_there
        done = restore(folder, path)
        found = load(folder.database).get(Client, ANN.key)
        assert found == replace(ANN, uid="ann-2"), "what was revoked is valid again after the second try"
        if cut_there:
            assert done.kept is not None
            kept = content(done.kept)
            assert {name: kept[name] for name in KEPT_FILES if name in kept} == {
                name: before[name] for name in KEPT_FILES if name in before
            }
            there = load(done.kept / "lab.sqlite")
            assert there.get(Client, BOB.key) is None
        folder.check_whole()
        assert not list(folder.path.glob(".restore-*"))
        steps += 1
    assert load(folder.database).get(Client, ANN.key) == replace(ANN, uid="ann-2")
    assert marked > 3
    assert steps > 8


def test_another_user_is_told_who_may_use_the_folder(lab: DataFolder, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    os.seteuid(65534)
    try:
        for use in (lambda: write_backup(lab, tmp_path / "b"), lab.prepare):
            with pytest.raises(DataError, match=r"this user may not use|Permission denied"):
                use()
    finally:
        os.seteuid(0)


def test_what_a_killed_backup_has_left_goes_with_the_next_one_and_what_another_one_writes_stays(
    lab: DataFolder, tmp_path: Path
) -> None:
    left, written, young = (tmp_path / f".b.{number}" for number in ("0" * 8, "1" * 8, "2" * 8))
    for part in (left, written, young):
        part.write_bytes(b"secret")
    for part in (left, written):
        os.utime(part, (1.0, 1.0))
    with written.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        write_backup(lab, tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == [written.name, young.name, "b", "data"]
    assert open_files(tmp_path) == set()


def test_what_root_restores_belongs_to_whom_the_folder_belongs(lab: DataFolder, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes files of others")
    path = write_backup(lab, tmp_path / "b").path
    for folder in (lab.path, tmp_path / "new"):
        folder.mkdir(mode=0o700, exist_ok=True)
        for file in (folder, *folder.iterdir()):
            os.chown(file, 65534, 65534)
        done = restore(DataFolder(folder), path)
        assert (done.kept is None) == (folder != lab.path)
        assert {file.stat().st_uid for file in folder.rglob("*")} == {65534}
