"""A store that others have damaged, or that cannot be read for a while, keeps nobody else waiting and stops nothing."""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

import pytest
import trio
from jumpstarter_proto.rpc import RpcError, StatusCode
from msgspec.structs import replace

from jumpstarter_controller.lab import Client, Draft, Exporter, Key, Lease, PairingCode, Policy, Rule
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.reconciler import store_sync
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.reconciler.test_reconciler_others import (
    ANN,
    BOARD,
    MINE,
    WAIT,
    Shared,
    lease,
    put,
    running,
    until,
)
from jumpstarter_controller.store import (
    Change,
    Conflict,
    DamagedError,
    SqliteStore,
    StoreError,
    TooOldError,
    Unknown,
    sqlite,
)
from jumpstarter_controller.store.contract import Cursor, Snapshot, Stored, WatchResult, Written, key_of
from jumpstarter_controller.store.whole import fill, lab_of

BOB = Client(namespace="lab", name="bob", uid="3")


class Unreadable(Shared):
    """Some of it cannot be read while there is something wrong with it."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong = ""
        """With all of it."""
        self.damaged: set[RecordRef] = set()
        self.is_forgetful = False
        self.refused = 0
        self.reads = 0

    def snapshot(self, *, whole: bool = True) -> Snapshot:
        if self.wrong:
            self.refused += 1
            raise StoreError(self.wrong)
        return super().snapshot(whole=whole)

    def read(self, ref: RecordRef) -> Stored | None:
        self.reads += 1
        if ref in self.damaged:
            raise DamagedError(f"{ref[0].KIND} {ref[1]} is no record")
        return super().read(ref)

    def watch(self, cursor: Cursor, seconds: float) -> WatchResult:
        if self.is_forgetful:
            self.is_forgetful = bool(self.wrong)
            raise TooOldError
        return super().watch(cursor, seconds)


@pytest.fixture
def store() -> Unreadable:
    store = Unreadable()
    fill(store, ANN, BOARD)
    return store


async def test_a_store_that_cannot_be_read_is_said_once_and_followed_again(
    store: Unreadable,
    nursery: trio.Nursery,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store_sync, "RETRY_SECONDS", 0.01)
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    store.wrong, store.is_forgetful = "client lab/eve is damaged; restore a backup", True
    store.wake()
    with trio.fail_after(WAIT):
        while store.refused < 3:
            await trio.sleep(0.01)
        await reconciler.change(put(lease()))
    store.others(BOB)
    store.wrong = ""
    with trio.fail_after(WAIT):
        while reconciler.committed.get(Client, BOB.key) is None:
            await reconciler.wait(Client, BOB.key, math.inf)
    assert caplog.text.count("cannot be read: client lab/eve is damaged") == 1
    assert caplog.text.count("can be read again") == 1


async def test_a_record_that_cannot_be_read_keeps_no_other_waiting(
    store: Unreadable, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_sync, "RETRY_SECONDS", math.inf)
    store.damaged = {key_of(BOB)}
    store.others(replace(lease("bobs"), client="bob"), replace(lease(), client="nobody"))
    reconciler = Reconciler(store)
    with trio.fail_after(WAIT):
        await running(reconciler, nursery)
        ended = await until(reconciler, lambda one: one is not None and one.ended is not None)
        assert ended is not None
        assert ended.conditions[-1].message == "there is no client nobody"
        for _ in range(3):
            await reconciler.change(lambda *_: None)
    bobs = reconciler.committed.get(Lease, Key("lab", "bobs"))
    assert bobs is not None
    assert bobs.ended is None, "that it cannot be read does not say that it is gone"


async def test_a_store_that_answers_slowly_is_asked_for_few_records_in_one_turn(
    store: Unreadable, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_sync, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(store_sync, "LOOK_SECONDS", 0.0)
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    bobs = [replace(lease(f"bobs{number}"), client=f"bob{number}") for number in range(8)]
    store.damaged = {(Client, Key("lab", one.client)) for one in bobs}
    store.others(*bobs)
    with trio.fail_after(WAIT):
        while reconciler.committed.get(Lease, bobs[-1].key) is None:
            await reconciler.wait(Lease, bobs[-1].key, math.inf)
    for _ in range(3):
        store.reads = 0
        await reconciler.change(lambda *_: None)
        assert store.reads < len(bobs)
    store.damaged = set()
    with trio.fail_after(WAIT):
        for one in bobs:
            while (found := reconciler.committed.get(Lease, one.key)) is None or found.ended is None:
                await reconciler.wait(Lease, one.key, math.inf)


async def test_a_policy_that_cannot_be_parsed_lets_nobody_in_and_stops_nothing(
    store: Unreadable, nursery: trio.Nursery
) -> None:
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    rules = (Rule(("team in",)), Rule(("",)))
    store.others(
        Policy(namespace="lab", name="exporters", exporters="board in (", rules=rules),
        Policy(namespace="lab", name="clients", rules=rules[:1]),
        lease(),
    )
    ended = await until(reconciler, lambda one: one is not None and one.ended is not None)
    assert ended is not None
    assert "no access policy" in ended.conditions[-1].message
    store.others(Policy(namespace="lab", name="all", rules=rules), lease("later"))
    later = Key("lab", "later")
    with trio.fail_after(WAIT):
        while (found := reconciler.committed.get(Lease, later)) is None or not found.active:
            await reconciler.wait(Lease, later, math.inf)


async def test_a_change_that_was_stopped_where_the_turn_has_written_before_is_not_taken_for_made(
    store: Unreadable, nursery: trio.Nursery
) -> None:
    reconciler = Reconciler(store)
    await running(reconciler, nursery)

    def change(draft: Draft, _: float) -> None:
        ann = draft.get(Client, ANN.key)
        assert ann is not None
        draft.put(replace(ann, labels=ann.labels | {"bob": str(draft.get(Client, BOB.key) is not None)}))
        if draft.get(Client, BOB.key) is None:
            draft.put(BOB)

    def stops(changes: Sequence[Change], commit: Callable[[Sequence[Change]], Sequence[Written]]) -> None:
        """Ann's is written; then somebody else makes Bob, and is first at Ann's, too, the next time."""
        assert [one.ref for one in changes] == [key_of(ANN), key_of(BOB)]
        done = commit(changes[:1])
        store.others(replace(BOB, labels={"made": "elsewhere"}))
        ann = lab_of(store).get(Client, ANN.key)
        assert ann is not None
        store.ahead = [lambda: store.others(replace(ann, username="ann@lab"))]
        raise Conflict(key_of(BOB), done)

    store.stops = stops
    await reconciler.change(change)
    ann = lab_of(store).get(Client, ANN.key)
    assert ann is not None
    assert ann.labels == {"bob": "True"}
    assert ann.username == "ann@lab"


async def test_who_waits_for_a_change_at_which_the_engine_ends_hears_that(
    store: Unreadable, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconciler = Reconciler(store)

    def fault(_: object) -> None:
        raise ZeroDivisionError("a fault of ours")

    async def run() -> None:
        with pytest.RaisesGroup(ZeroDivisionError):
            await reconciler.run()

    monkeypatch.setattr(store, "commit", fault)
    with trio.fail_after(WAIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            with pytest.raises(RpcError) as error:
                await reconciler.change(put(BOB))
    assert error.value.code is StatusCode.UNAVAILABLE


async def test_a_lease_that_somebody_else_gives_a_board_begins_and_ends_in_time(
    store: Unreadable, nursery: trio.Nursery
) -> None:
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    store.others(lease(exporter="one", duration=0.5))
    begun = await until(reconciler, lambda one: one is not None and one.begun is not None)
    assert begun is not None
    assert begun.exporter == "one"
    await until(reconciler, lambda one: one is not None and one.ended is not None)
    assert reconciler.committed.get(Exporter, BOARD.key) == BOARD
    assert reconciler.committed.get(Lease, MINE) == lab_of(store).get(Lease, MINE)


@pytest.mark.parametrize("step", [86400.0, -3600.0])
async def test_what_has_followed_a_clock_that_was_set_follows_it_once_wherever_the_store_stops(
    store: Unreadable, nursery: trio.Nursery, step: float
) -> None:
    ahead = 1e9
    reconciler = Reconciler(store, clock=lambda: time.monotonic() + ahead, steady=time.monotonic)
    code = PairingCode(namespace="lab", name="c", kind="Client", subject="x", digest="", expires=2e9)
    began = reconciler.clock() - 1
    leased = lease(begin_time=began, begun=began, exporter="one", duration=600.0)
    store.others(
        code, leased, replace(BOARD, lease="mine"), replace(ANN, previous_uid="0", previous_uid_until=2e9)
    )
    await running(reconciler, nursery)
    await until(reconciler, lambda one: one is not None)
    stopped = 0

    def stops(changes: Sequence[Change], commit: Callable[[Sequence[Change]], Sequence[Written]]) -> None:
        nonlocal stopped
        stopped += 1
        done = commit(changes[:1])
        if len(changes) > 2:
            store.stops = stops
        if stopped % 2:
            raise Conflict(changes[1].ref, done)
        error = StoreError("the network is gone; look after it")
        error.done = done
        raise error

    store.stops = stops
    ahead += step
    with trio.fail_after(WAIT):
        while reconciler.clock.step():
            with suppress(StoreError):
                await reconciler.change(lambda *_: None)
    kept = lab_of(store)
    for lab in (reconciler.committed, kept):
        moved = lab.get(Lease, MINE)
        assert moved is not None
        assert moved.ended is None
        assert moved.begun == pytest.approx(began + step, abs=1)
        assert moved.begin_time == pytest.approx(began + step, abs=1)
        assert [one.expires for one in lab.all(PairingCode)] == pytest.approx([2e9 + step], abs=1)
        assert [one.previous_uid_until for one in lab.all(Client)] == pytest.approx([2e9 + step], abs=1)
    assert stopped > 2


async def test_a_record_of_whose_end_nobody_knows_is_taken_away_once(
    store: Unreadable, nursery: trio.Nursery
) -> None:
    store.others(BOB)
    reconciler = Reconciler(store)
    await running(reconciler, nursery)

    def stops(changes: Sequence[Change], commit: Callable[[Sequence[Change]], Sequence[Written]]) -> None:
        commit(changes)
        raise Unknown(changes[0].ref)

    def delete(draft: Draft, _: float) -> None:
        client = draft.get(Client, BOB.key)
        assert client is not None, "it is gone: this has done it"
        draft.remove(client)

    store.stops = stops
    await reconciler.change(delete)
    assert reconciler.committed.get(Client, BOB.key) is None


async def test_an_engine_that_ends_does_not_wait_for_another_that_has_its_store_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 3600.0)
    path = tmp_path / "lab.sqlite"
    refused: list[StoreError] = []

    async def ask(reconciler: Reconciler) -> None:
        with pytest.raises(StoreError, match="end the program that has it open") as error:
            await reconciler.change(put(BOB))
        refused.append(error.value)

    with closing(SqliteStore(path)) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        reconciler = Reconciler(store)
        waits = trio.Event()
        token = trio.lowlevel.current_trio_token()

        def seen(statement: str) -> None:
            if "BEGIN IMMEDIATE" in statement:
                token.run_sync_soon(waits.set)

        store._db.set_trace_callback(seen)
        with trio.fail_after(WAIT):
            async with trio.open_nursery() as asking, trio.open_nursery() as nursery:
                await nursery.start(reconciler.run)
                other.execute("BEGIN IMMEDIATE")
                asking.start_soon(ask, reconciler)
                await waits.wait()
                nursery.cancel_scope.cancel()
    assert len(refused) == 1


async def test_an_engine_that_ends_does_not_wait_until_everything_was_read(
    store: Unreadable, nursery: trio.Nursery
) -> None:
    begun, woken = threading.Event(), threading.Event()
    wake = store.wake

    def slow(*, whole: bool = True) -> Snapshot:
        """As with a server that does not answer: it is asked again, but no longer than until `wake`."""
        begun.set()
        assert woken.wait(2 * WAIT)
        raise StoreError("the server does not answer")

    def wakes() -> None:
        woken.set()
        wake()

    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    store.snapshot, store.wake, store.is_forgetful = slow, wakes, True  # type: ignore[method-assign]
    store.others(BOB)
    assert await trio.to_thread.run_sync(begun.wait, WAIT)
    nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True), trio.fail_after(WAIT):
        await reconciler.failed.wait()
    assert woken.is_set()
