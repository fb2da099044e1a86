"""A record that somebody has damaged costs what is asked of it, and nobody else anything."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.rpc import RpcError
from msgspec.structs import replace

from jumpstarter_controller.lab import Client, Draft, Exporter, ExporterStatus, Key, Lease, Record
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.reconciler import store_sync
from jumpstarter_controller.reconciler.lease_gc import _removal
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.reconciler.test_reconciler_others import (
    ANN,
    BOARD,
    MINE,
    WAIT,
    lease,
    put,
    running,
    until,
)
from jumpstarter_controller.services import changes
from jumpstarter_controller.store import (
    Change,
    DamagedError,
    Half,
    MemoryStore,
    SqliteStore,
    StoreError,
    sqlite,
)
from jumpstarter_controller.store.contract import Cursor, Stored, StoreEvent, WatchResult, key_of
from jumpstarter_controller.store.whole import fill, lab_of

BOB = Client(namespace="lab", name="bob", uid="3")
TWO = replace(BOARD, name="two", uid="4")
GARBAGE = "no record"
AT = "kind=? AND namespace=? AND name=?"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lab.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(path)) as store:
        fill(store, ANN, BOB, BOARD)
        yield store


def damage(path: Path, ref: RecordRef) -> tuple[str, int]:
    """What was there, and its revision."""
    at = (ref[0].KIND, *ref[1])
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        (last,) = db.execute("UPDATE numbers SET last = last + 1 RETURNING last").fetchone()
        (spec, revision) = db.execute(f"SELECT spec, revision FROM records WHERE {AT}", at).fetchone()
        db.execute(f"UPDATE records SET spec=?, revision=? WHERE {AT}", (GARBAGE, last, *at))
        db.execute("COMMIT")
    return str(spec), int(revision)


def repair(path: Path, ref: RecordRef, was: tuple[str, int]) -> None:
    """With an editor that brings back what it had copied."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"UPDATE records SET spec=?, revision=? WHERE {AT}", (*was, ref[0].KIND, *ref[1]))


def status_of(path: Path, ref: RecordRef) -> dict[str, object]:
    """As it is kept."""
    with closing(sqlite3.connect(path)) as db:
        row = db.execute(f"SELECT status FROM records WHERE {AT}", (ref[0].KIND, *ref[1])).fetchone()
    found = json.loads(row[0])
    assert isinstance(found, dict)
    return found


async def test_a_damaged_record_is_refused_with_a_sentence_and_is_followed_again_when_it_is_repaired(
    store: SqliteStore,
    path: Path,
    nursery: trio.Nursery,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store_sync, "RETRY_SECONDS", 0.01)
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    spec, revision = damage(path, key_of(ANN))
    outcomes: dict[str, str] = {}

    async def ask(client: Client) -> None:
        try:
            await reconciler.change(put(replace(client, username=f"{client.name}@lab")))
        except StoreError as error:
            outcomes[client.name] = str(error)
        else:
            outcomes[client.name] = "kept"

    async with trio.open_nursery() as asking:  # in one turn, and in one batch
        asking.start_soon(ask, ANN)
        asking.start_soon(ask, BOB)
    assert outcomes["bob"] == "kept"
    said = "client lab/ann is damaged in the controller's store, and cannot be changed until it is repaired; "
    assert outcomes["ann"].startswith(said)
    assert str(path) not in outcomes["ann"]
    assert reconciler.committed.get(Client, ANN.key) == ANN, "it is as it was"
    assert said in reconciler.damage
    assert not reconciler.trouble
    await reconciler.change(put(lease()))
    await until(reconciler, lambda one: one is not None and one.active)
    with pytest.raises(DamagedError, match="client lab/ann"):
        await reconciler.change(put(replace(ANN, enabled=False)))
    assert caplog.text.count(said) == 1
    assert f"{path}: client lab/ann is damaged (JSON is malformed" in caplog.text
    fields = json.loads(spec) | {"labels": {"team": "a"}}
    repair(path, key_of(ANN), (json.dumps(fields), revision))
    with trio.fail_after(WAIT):
        while reconciler.damage:
            await trio.sleep(0.01)
    repaired = replace(ANN, labels={"team": "a"})
    assert reconciler.committed.get(Client, ANN.key) == repaired
    await reconciler.change(put(replace(repaired, username="ann@lab")))
    kept = lab_of(store)
    assert kept.get(Client, ANN.key) == replace(repaired, username="ann@lab")
    assert caplog.text.count("client lab/ann is repaired") == 1


async def test_a_damaged_record_that_is_taken_away_is_gone(
    store: SqliteStore, path: Path, nursery: trio.Nursery
) -> None:
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    damage(path, key_of(BOB))
    with pytest.raises(DamagedError):
        await reconciler.change(put(replace(BOB, enabled=False)))
    with closing(SqliteStore(path)) as other:
        (revision,) = other._db.execute("SELECT revision FROM records WHERE name='bob'").fetchone()
        other.commit([Change(key_of(BOB), Half.SPEC, None, revision)])
    with trio.fail_after(WAIT):
        while reconciler.committed.get(Client, BOB.key) is not None:
            await reconciler.wait(Client, BOB.key, math.inf)
    assert not reconciler.damage
    await reconciler.change(put(BOB))


async def test_a_lease_does_not_get_a_board_whose_record_is_damaged_and_says_why_it_waits(
    store: SqliteStore, path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_sync, "RETRY_SECONDS", 0.01)
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    was = damage(path, key_of(BOARD))
    await reconciler.change(put(lease()))
    waiting = await until(reconciler, lambda one: one is not None and bool(one.conditions))
    assert waiting is not None
    assert not waiting.exporter
    assert waiting.conditions[-1].message == (
        "no exporter that it may have is ready yet; "
        "the record of one is damaged: the lab's administrator has to repair it"
    )
    repair(path, key_of(BOARD), was)
    await until(reconciler, lambda one: one is not None and one.active)


async def test_a_lease_ends_whose_board_is_damaged_and_the_board_is_free_when_it_is_repaired(
    store: SqliteStore, path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_sync, "RETRY_SECONDS", 0.01)
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    await reconciler.change(put(lease()))
    active = await until(reconciler, lambda one: one is not None and one.active)
    assert active is not None
    was = damage(path, key_of(BOARD))
    await reconciler.change(lambda lab, _: changes.release(lab, active))
    assert status_of(path, (Lease, MINE))["ended"]
    await reconciler.change(put(lease("next")))
    repair(path, key_of(BOARD), was)
    with trio.fail_after(WAIT):
        while (found := reconciler.committed.get(Lease, Key("lab", "next"))) is None or not found.active:
            await reconciler.wait(Lease, Key("lab", "next"), math.inf)


async def test_a_damaged_lease_is_left_alone_and_others_that_are_forgotten_go(
    store: SqliteStore, path: Path, nursery: trio.Nursery
) -> None:
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    ended = [lease(name, ended=1.0) for name in ("a", "b", "c")]
    await reconciler.change(put(*ended, lease(duration=0.2)))
    await until(reconciler, lambda one: one is not None and one.active)
    damage(path, (Lease, MINE))
    damage(path, key_of(ended[1]))
    with trio.fail_after(WAIT):
        while reconciler.damage.count("damaged in") < 1:  # its end cannot be written
            await reconciler.change(lambda *_: None)
        counts = [await reconciler.change(_removal([one.key for one in ended])) for _ in range(2)]
    assert counts == [2, 0]
    assert {one.name for one in reconciler.committed.all(Lease)} == {"b", "mine"}
    for _ in range(3):
        await reconciler.change(lambda *_: None)
    board = reconciler.committed.get(Exporter, BOARD.key)
    assert board is not None
    assert board.lease == "mine"


async def test_who_is_too_far_behind_looks_at_everything_that_is_not_damaged(
    store: SqliteStore, path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "MAX_DELETED", 2)
    reconciler = Reconciler(store)
    with closing(SqliteStore(path)) as other:
        more = [Client(namespace="lab", name=f"c{number}", uid="5") for number in range(5)]
        fill(other, *more[:4])
        damage(path, key_of(ANN))
        for client in (*more[:4], BOB):
            (revision,) = other._db.execute(
                "SELECT revision FROM records WHERE name=?", [client.name]
            ).fetchone()
            other.commit([Change(key_of(client), Half.SPEC, None, revision)])
        other.commit([Change(key_of(more[4]), Half.SPEC, more[4], None)])
    await running(reconciler, nursery)
    with trio.fail_after(WAIT):
        while (
            reconciler.committed.get(Client, more[4].key) is None
            or reconciler.committed.get(Client, BOB.key) is not None
        ):
            await reconciler.wait(Client, more[4].key, math.inf)
    assert reconciler.committed.get(Client, ANN.key) == ANN, "it is damaged, and not gone"


class Vandalised(MemoryStore):
    """Somebody damages records in it, and repairs them."""

    def __init__(self) -> None:
        super().__init__()
        self.damaged: set[RecordRef] = set()
        self.reads = 0

    def damage(self, ref: RecordRef) -> None:
        if self._touch(ref):
            self.damaged.add(ref)

    def repair(self, ref: RecordRef) -> None:
        if ref in self.damaged:
            self.damaged.discard(ref)
            self._touch(ref)

    def _touch(self, ref: RecordRef) -> bool:
        stored = super().read(ref)
        if stored is not None:
            super().commit([Change(ref, Half.SPEC, stored.record, stored.revision)])
        return stored is not None

    def read(self, ref: RecordRef) -> Stored | None:
        self.reads += 1
        if ref in self.damaged:
            raise DamagedError(f"{ref[0].KIND} {ref[1]} is no record")
        return super().read(ref)

    def watch(self, cursor: Cursor, seconds: float) -> WatchResult:
        seen = super().watch(cursor, seconds)
        return WatchResult([one for one in seen.events if one.ref not in self.damaged], seen.cursor)

    def newer(self, cursor: Cursor, kinds: Collection[type[Record]]) -> Sequence[StoreEvent]:
        return [one for one in super().newer(cursor, kinds) if one.ref not in self.damaged]


async def test_a_store_that_answers_slowly_is_asked_for_few_damaged_records_in_one_turn(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_sync, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(store_sync, "LOOK_SECONDS", 0.0)
    store = Vandalised()
    clients = [Client(namespace="lab", name=f"c{number}", uid=str(number)) for number in range(8)]
    fill(store, BOARD, *clients)
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    for client in clients:
        store.damage(key_of(client))
        with pytest.raises(DamagedError):
            await reconciler.change(put(replace(client, username="ann@lab")))
    for _ in range(3):
        store.reads = 0
        reconciler._store_sync._repairs_due = 0.0
        await reconciler.change(lambda *_: None)
        await reconciler.change(lambda *_: None)
        assert store.reads < len(clients)
    for client in clients:
        store.repair(key_of(client))
    with trio.fail_after(WAIT):
        while reconciler.damage:
            await reconciler.change(lambda *_: None)


NAMES = st.sampled_from(["a", "b", "c", "d"])
PLACES = st.one_of(
    st.sampled_from([key_of(one) for one in (ANN, BOB, BOARD, TWO)]),
    NAMES.map(lambda name: (Lease, Key("lab", name))),
)
STEPS = st.one_of(
    st.tuples(st.just("damage"), PLACES),
    st.tuples(st.just("repair"), PLACES),
    st.tuples(st.just("create"), st.tuples(NAMES, st.sampled_from([ANN, BOB]))),
    st.tuples(st.just("release"), NAMES),
    st.tuples(st.just("status"), st.sampled_from([BOARD, TWO])),
    st.tuples(st.just("leave"), st.sampled_from([BOARD, TWO])),
)


@given(st.lists(STEPS, max_size=25), st.integers(1, 5))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_damaged_only_that_cannot_be_changed(
    steps: list[tuple[str, object]], at_once: int
) -> None:
    store = Vandalised()
    fill(store, ANN, BOB, BOARD, TWO)

    refusals: list[bool] = []

    async def one(reconciler: Reconciler, what: str, about: object) -> None:
        kind, name = ("lease", about) if what == "release" else ("exporter", getattr(about, "name", ""))
        try:
            await asked(reconciler, what, about)
        except DamagedError as error:
            refusals.append(str(error).startswith(f"{kind} lab/{name} is damaged"))
        except RpcError as error:
            refusals.append("exists" in error.details or "not found" in error.details)

    async def asked(reconciler: Reconciler, what: str, about: object) -> None:
        if what == "create":
            assert isinstance(about, tuple)
            name, client = about
            wish = client_pb2.Lease(selector="board=rpi4")
            wish.duration.seconds = 3600
            await reconciler.change(lambda lab, now: changes.create_lease(lab, now, client, name, wish))
        elif what == "release":
            assert isinstance(about, str)
            key = Key("lab", about)

            def release(draft: Draft, _: float) -> None:
                found = draft.get(Lease, key)
                if found is None:
                    raise changes.not_found("lease", key.name)
                changes.release(draft, found)

            await reconciler.change(release)
        else:
            assert isinstance(about, Exporter)
            status = ExporterStatus.AVAILABLE if what == "status" else ExporterStatus.OFFLINE
            await reconciler.change(lambda lab, _: changes.report(lab, about.key, status, ""))

    async def run() -> None:
        reconciler = Reconciler(store)
        async with trio.open_nursery() as nursery:
            await nursery.start(reconciler.run)
            for board in (BOARD, TWO):
                reconciler.presence.connected(board.key, reconciler.clock())
            for start in range(0, len(steps), at_once):
                async with trio.open_nursery() as asking:
                    for what, about in steps[start : start + at_once]:
                        if what in {"damage", "repair"}:
                            getattr(store, what)(about)
                        else:
                            asking.start_soon(one, reconciler, what, about)
            with trio.fail_after(WAIT):
                for ref in list(store.damaged):
                    store.repair(ref)
                while reconciler.damage or lab_of(store).at_odds():
                    await reconciler.change(lambda *_: None)
                    await trio.sleep(0.01)
                for _ in range(2):
                    await reconciler.change(lambda *_: None)
            nursery.cancel_scope.cancel()
        kept = lab_of(store)
        for kind in (Client, Exporter, Lease):
            assert {one.key: one for one in kept.all(kind)} == {
                one.key: one for one in reconciler.committed.all(kind)
            }
        active = [one.exporter for one in kept.all(Lease) if one.active]
        assert len(active) == len(set(active)), "a board is leased twice"
        assert not any(one.release and one.ended is None for one in kept.all(Lease))
        waits = [one for one in kept.open_leases() if not one.exporter]
        free = [one for one in kept.all(Exporter) if not one.lease and one.status is ExporterStatus.AVAILABLE]
        assert not (waits and free), "nobody gets a board that is free"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_sync, "RETRY_SECONDS", 0.01)
        trio.run(run)
    assert all(refusals)
