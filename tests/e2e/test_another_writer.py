"""Another process creates, extends and releases leases in the store of a running controller."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from jumpstarter_controller.lab import Client, Key, Lease
from jumpstarter_controller.store import Change, Conflict, Half, SqliteStore
from msgspec.structs import replace

from tests.e2e.lab import LIMIT, Lab, Reader

MINE = (Lease, Key("default", "mine"))


@contextmanager
def opened(lab: Lab) -> Iterator[SqliteStore]:
    with closing(SqliteStore(lab.data / "lab.sqlite")) as store:
        yield store


def change(store: SqliteStore, changed: Callable[[Lease], Lease]) -> None:
    """Change what is asked for, on the record as it is then."""
    while True:
        stored = store.read(MINE)
        assert stored is not None
        assert isinstance(stored.record, Lease)
        try:
            store.commit([Change(MINE, Half.SPEC, changed(stored.record), stored.revision)])
        except Conflict:
            continue
        return


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab.opened() as lab:
        lab.exporter("one")
        yield lab


def test_leases_that_another_process_makes_extends_and_releases_are_followed_by_everybody(lab: Lab) -> None:
    ann, bob = lab.client("ann"), lab.client("bob")
    exporters = Reader(lab.start("exporters", "--watch", "--client", ann))
    leases = Reader(lab.start("lease", "list", "--watch", "--client", ann))
    lab.until(lambda: "one is free\n" in exporters.text["out"])
    with opened(lab) as store:
        lease = Lease(
            namespace="default", name="mine", uid="1", created=time.time(), client="ann", duration=600.0
        )
        store.commit([Change(MINE, Half.SPEC, replace(lease, selector="board=rpi4"), None)])
        lab.until(lambda: "one is leased: ann until " in exporters.text["out"])
        lab.until(lambda: "mine" in leases.text["out"])
        assert lab.leases(ann)["mine"]["exporter"] == "one"
        lab.ok("power", "on", "--lease", "mine", "--client", ann)

        waiting = Reader(lab.start("power", "on", "-l", "board=rpi4", "--client", bob))
        lab.until(lambda: any(one["client"] == "bob" for one in lab.leases(ann).values()))
        before = lab.leases(ann)["mine"]["duration"]
        change(store, lambda one: replace(one, duration=7200.0))
        lab.until(lambda: lab.leases(ann)["mine"]["duration"] != before)
        change(store, lambda one: replace(one, release=True, release_reason="its user is on holiday"))
        code, _, said = waiting.end()
        assert code == 0, said
        lab.until(lambda: exporters.text["out"].count("one is free\n") >= 2)
        lab.until(lambda: "mine" not in lab.leases(ann))
        stored = store.read(MINE)
        assert stored is not None
        assert isinstance(stored.record, Lease)
        assert stored.record.conditions[-1].message == "its user is on holiday"
        again = replace(lease, name="again", selector="board=rpi4", created=time.time())
        ref = (Lease, again.key)
        store.commit([Change(ref, Half.SPEC, again, None)])
        lab.until(lambda: lab.leases(ann).get("again", {}).get("exporter") == "one")
        while ref in (records := store.snapshot().records):
            try:
                store.commit([Change(ref, Half.SPEC, None, records[ref].revision)])
            except Conflict:
                continue
        lab.until(lambda: lab.status("one") == "AVAILABLE")
        assert "lease ended: somebody deleted it" in lab.admin("journal", "--lease", "again")
    for watch in (exporters, leases):
        watch.process.send_signal(signal.SIGINT)
        assert watch.process.wait(timeout=LIMIT) == 130
    said = lab.controller.log.read_text()
    assert "lease created: board=rpi4" in said
    assert "Traceback" not in said


def test_a_lease_that_is_damaged_goes_on_and_nobody_else_notices(lab: Lab) -> None:
    lab.exporter("two")
    ann, bob = lab.client("ann"), lab.client("bob")
    lab.ok("lease", "create", "-n", "one", "--lease-id", "mine", "--client", ann)
    with closing(sqlite3.connect(lab.data / "lab.sqlite", timeout=LIMIT, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        (number,) = db.execute("UPDATE numbers SET last = last + 1 RETURNING last").fetchone()
        (spec,) = db.execute("SELECT spec FROM records WHERE kind = 'lease'").fetchone()
        db.execute("UPDATE records SET spec = 'nothing', revision = ? WHERE kind = 'lease'", [number])
        db.execute("COMMIT")
        code, said = lab.refused("lease", "release", "mine", "--client", ann)
        assert "lease default/mine is damaged in the controller's store" in said
        assert (code, said.count("\n")) == (4, 1), said
        lab.ok("power", "on", "--lease", "mine", "--client", ann)
        lab.ok("lease", "create", "-l", "board=rpi4", "--lease-id", "bobs", "--client", bob)
        lab.ok("lease", "release", "bobs", "--client", bob)
        db.execute("UPDATE records SET spec = ? WHERE kind = 'lease' AND name = 'mine'", [spec])
    lab.until(lambda: "lease default/mine is repaired" in lab.controller.log.read_text())
    lab.ok("lease", "release", "mine", "--client", ann)
    lab.until(lambda: lab.status("one") == "AVAILABLE")


def test_what_is_not_a_record_is_said_and_disturbs_nobody(lab: Lab) -> None:
    ann = lab.client("ann")
    with closing(sqlite3.connect(lab.data / "lab.sqlite", timeout=LIMIT)) as db:
        (number,) = db.execute("UPDATE numbers SET last = last + 1 RETURNING last").fetchone()
        row = ("client", "default", "eve", '{"namespace": 5}', "{}", number, number, "")
        db.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        db.commit()
    lab.until(lambda: "client default/eve is not a valid record" in lab.controller.log.read_text())
    with opened(lab) as store:
        place = (Client, Key("default", "fay"))
        store.commit([Change(place, Half.SPEC, Client(namespace="default", name="fay", uid="2"), None)])
    lab.until(lambda: "fay" in lab.admin("client", "list"))
    assert "eve" not in lab.admin("client", "list")
    name = lab.ok("lease", "create", "-l", "board=rpi4", "-o", "name", "--client", ann).strip()
    assert lab.leases(ann)[name]["exporter"] == "one"
    lab.ok("lease", "release", name, "--client", ann)
