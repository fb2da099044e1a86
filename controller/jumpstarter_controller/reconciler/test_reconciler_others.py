"""An engine is not alone with its store: what others write counts, and what it comes upon is made again."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace as changed
from pathlib import Path

import pytest
import trio
import trio.testing
from jumpstarter_proto.rpc import RpcError
from msgspec.structs import replace

from jumpstarter_controller.lab import Client, Draft, Exporter, ExporterStatus, Key, Lease, Record
from jumpstarter_controller.reconciler import store_sync
from jumpstarter_controller.reconciler.reconciler import MAX_CONFLICTS, Reconciler
from jumpstarter_controller.store import Change, Half, MemoryStore, SqliteStore, StoreError, Unknown, sqlite
from jumpstarter_controller.store.contract import Cursor, WatchResult, Written, key_of
from jumpstarter_controller.store.whole import fill, lab_of, overwrite

ANN = Client(namespace="lab", name="ann", uid="1")
BOARD = Exporter(
    namespace="lab", name="one", uid="2", devices=1, labels={"board": "rpi4"}, status=ExporterStatus.AVAILABLE
)
MINE = Key("lab", "mine")
WAIT = 5.0


class Shared(MemoryStore):
    """A store in which somebody else gets ahead of the next commit, which may come to grief."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead: list[Callable[[], None]] = []
        self.commits = 0
        self.stops: Callable[[Sequence[Change], Callable[[Sequence[Change]], Sequence[Written]]], None] | None
        self.stops = None

    def commit(self, changes: Sequence[Change]) -> Sequence[Written]:
        if self.ahead:
            self.ahead.pop(0)()
        self.commits += 1
        if self.stops is not None:
            stops, self.stops = self.stops, None
            stops(changes, super().commit)
        return super().commit(changes)

    def others(self, *records: Record) -> None:
        """Somebody else's change, whole."""
        changes = []
        for record in records:
            stored = self.read(key_of(record))
            revision = None if stored is None else stored.revision
            changes += [Change(key_of(record), half, record, revision) for half in Half]
        super().commit(changes)


@pytest.fixture
def store() -> Shared:
    store = Shared()
    store.others(ANN, BOARD)
    return store


def lease(name: str = "mine", **more: object) -> Lease:
    fields: dict[str, object] = {"selector": "board=rpi4", "duration": 60.0, **more}
    return Lease(namespace="lab", name=name, client="ann", **fields)  # type: ignore[arg-type]


def put(*records: Record) -> Callable[[Draft, float], None]:
    def change(draft: Draft, _: float) -> None:
        for record in records:
            draft.put(record)

    return change


async def running(reconciler: Reconciler, nursery: trio.Nursery) -> None:
    await nursery.start(reconciler.run)
    reconciler.presence.connected(BOARD.key, reconciler.clock())


async def until(reconciler: Reconciler, holds: Callable[[Lease | None], bool]) -> Lease | None:
    with trio.fail_after(WAIT):
        while not holds(found := reconciler.committed.get(Lease, MINE)):
            await reconciler.wait(Lease, MINE, math.inf)
    return found


async def test_a_lease_that_somebody_else_makes_extends_and_releases_is_decided_about_as_any(
    store: Shared, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    ref = (Lease, MINE)
    (made,) = store.commit([Change(ref, Half.SPEC, lease(), None)])
    begun = await until(reconciler, lambda one: one is not None and one.active)
    assert begun is not None
    assert begun.exporter == "one"
    board = lab_of(store).get(Exporter, BOARD.key)
    assert board is not None
    assert board.lease == "mine"
    stored = store.read(ref)
    assert stored is not None
    assert stored.revision > made.revision
    longer = replace(begun, duration=3600.0)
    store.commit([Change(ref, Half.SPEC, longer, stored.revision)])
    await until(reconciler, lambda one: one is not None and one.duration == 3600.0)
    stored = store.read(ref)
    assert stored is not None
    store.commit([Change(ref, Half.SPEC, replace(longer, release=True), stored.revision)])
    await until(reconciler, lambda one: one is not None and one.ended is not None)
    said = "\n".join(one.getMessage() for one in caplog.records)
    for sentence in (
        "lease created",
        "lease ready on one",
        "it lasts 3600 s",
        "lease ended: it was released",
    ):
        assert sentence in said
    assert reconciler.counters.acquisitions["success"] == 1
    assert reconciler.committed.holder(BOARD.key) is None


async def test_what_somebody_else_takes_away_is_gone(store: Shared, nursery: trio.Nursery) -> None:
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    await reconciler.change(put(lease()))
    await trio.to_thread.run_sync(overwrite, store, {key_of(ANN): None})
    ended = await until(reconciler, lambda one: one is not None and one.ended is not None)
    assert ended is not None
    assert ended.conditions[-1].message == "client ann was deleted"
    assert reconciler.committed.get(Client, ANN.key) is None


async def test_a_change_that_comes_upon_anothers_is_made_again_on_the_records_as_they_are_then(
    store: Shared, nursery: trio.Nursery
) -> None:
    reconciler = Reconciler(store)
    await running(reconciler, nursery)

    def count(draft: Draft, _: float) -> int:
        client = draft.get(Client, ANN.key)
        assert client is not None
        number = int(client.labels.get("count", "0")) + 1
        draft.put(replace(client, labels={"count": str(number)}))
        return number

    def ahead() -> None:
        client = lab_of(store).get(Client, ANN.key)
        assert client is not None
        number = int(client.labels.get("count", "0")) + 10
        store.others(replace(client, labels={"count": str(number)}))

    store.ahead = [ahead, ahead]
    assert await reconciler.change(count) == 21
    assert await reconciler.change(count) == 22
    assert reconciler.committed.get(Client, ANN.key) == lab_of(store).get(Client, ANN.key)


async def test_a_change_that_comes_upon_anothers_behind_another_change_is_made_again_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a store that makes all of a batch or nothing."""
    monkeypatch.setattr(sqlite, "LOOK_SECONDS", 3600.0)
    bob = Client(namespace="lab", name="bob", uid="3")
    with closing(SqliteStore(tmp_path / "lab")) as store, closing(SqliteStore(tmp_path / "lab")) as other:
        fill(store, ANN, bob)
        reconciler = Reconciler(store)
        async with trio.open_nursery() as nursery:
            await nursery.start(reconciler.run)
            await trio.testing.wait_all_tasks_blocked(0.01)
            fill(other, replace(ANN, labels={"team": "a"}))

            def change(draft: Draft, _: float) -> None:
                for key in (bob.key, ANN.key):
                    client = draft.get(Client, key)
                    assert client is not None
                    draft.put(replace(client, username=f"{key.name}@lab"))

            await reconciler.change(change)
            nursery.cancel_scope.cancel()
        ann = lab_of(other).get(Client, ANN.key)
        assert ann is not None
        assert (ann.labels, ann.username) == ({"team": "a"}, "ann@lab")


async def test_a_board_that_another_takes_first_is_not_leased_twice(
    store: Shared, nursery: trio.Nursery
) -> None:
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    theirs = lease("theirs", exporter="one", begun=reconciler.clock())
    store.ahead = [lambda: store.others(replace(BOARD, lease="theirs"), theirs)]
    await reconciler.change(put(lease()))
    with trio.fail_after(WAIT):
        while (holder := reconciler.committed.holder(BOARD.key)) is None:
            await reconciler.wait(Exporter, BOARD.key, math.inf)
    assert holder.name == "theirs"
    await reconciler.change(lambda *_: None)
    kept = lab_of(store)
    assert kept.holder(BOARD.key) == holder
    mine = kept.get(Lease, MINE)
    assert mine is not None
    assert not mine.active
    assert mine.ended is None


async def test_a_board_of_whose_lease_nobody_knows_is_given_to_another_when_there_is_none(
    store: Shared, nursery: trio.Nursery
) -> None:
    store.others(replace(BOARD, lease="never"))
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    await reconciler.change(put(lease()))
    await until(reconciler, lambda one: one is not None and one.active)


async def test_a_lease_whose_client_comes_later_is_not_a_lease_of_nobodys(
    store: Shared, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records of different kinds come as they like."""
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    bob = Client(namespace="lab", name="bob", uid="3")
    watch = store.watch

    def without_clients(cursor: object, seconds: float) -> WatchResult:
        seen = watch(cursor, seconds)
        return changed(seen, events=[one for one in seen.events if one.ref[0] is not Client])

    monkeypatch.setattr(store, "watch", without_clients)
    store.wake()
    await trio.testing.wait_all_tasks_blocked(0.01)
    await trio.to_thread.run_sync(store.others, bob, replace(lease(), client="bob"))
    found = await until(reconciler, lambda one: one is not None and (one.active or one.ended is not None))
    assert found is not None
    assert found.active
    assert reconciler.committed.get(Client, bob.key) == bob


async def test_of_two_who_say_that_they_have_a_board_the_boards_word_counts(
    store: Shared, nursery: trio.Nursery
) -> None:
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    await reconciler.change(put(lease()))
    store.others(lease("theirs", exporter="one", begun=reconciler.clock()))
    with trio.fail_after(WAIT):
        while (found := reconciler.committed.get(Lease, Key("lab", "theirs"))) is None or found.ended is None:
            await reconciler.wait(Lease, Key("lab", "theirs"), math.inf)
    assert "was leased to lease mine before" in found.conditions[-1].message
    holder = reconciler.committed.holder(BOARD.key)
    assert holder is not None
    assert holder.key == MINE


@pytest.mark.parametrize("written", [True, False])
async def test_a_write_of_which_nobody_knows_is_made_once(
    store: Shared, nursery: trio.Nursery, written: bool
) -> None:
    reconciler = Reconciler(store)
    await running(reconciler, nursery)

    def stops(changes: Sequence[Change], commit: Callable[[Sequence[Change]], Sequence[Written]]) -> None:
        if written:
            commit(changes[:1])
        raise Unknown(changes[0].ref)

    calls = 0

    def change(draft: Draft, _: float) -> None:
        nonlocal calls
        calls += 1
        draft.put(lease())

    store.stops = stops
    await reconciler.change(change)
    assert calls == 2 - written
    active = await until(reconciler, lambda one: one is not None and one.active)
    assert lab_of(store).get(Lease, MINE) == active


async def test_whose_change_is_written_is_answered_though_the_rest_of_the_batch_is_not(
    store: Shared, nursery: trio.Nursery
) -> None:
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    outcomes: dict[str, str] = {}

    async def ask(name: str) -> None:
        try:
            await reconciler.change(put(Client(namespace="lab", name=name, uid=name)))
        except StoreError as error:
            outcomes[name] = str(error)
        else:
            outcomes[name] = "kept"

    def stops(changes: Sequence[Change], commit: Callable[[Sequence[Change]], Sequence[Written]]) -> None:
        error = StoreError("the network is gone; look after it")
        error.done = commit(changes[:1])
        raise error

    store.stops = stops
    async with trio.open_nursery() as asking:
        asking.start_soon(ask, "bob")
        asking.start_soon(ask, "eve")
    assert sorted(outcomes.values()) == ["kept", "the network is gone; look after it"]
    (kept,) = (name for name, said in outcomes.items() if said == "kept")
    for lab in (reconciler.committed, lab_of(store)):
        assert {one.name for one in lab.all(Client)} == {"ann", kept}


async def test_who_comes_upon_others_all_the_time_is_told_so_and_the_next_one_is_served(
    store: Shared, nursery: trio.Nursery
) -> None:
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    numbers = iter(range(1000))

    def ahead() -> None:
        store.others(replace(ANN, labels={"n": str(next(numbers))}))

    def change(draft: Draft, _: float) -> None:
        client = draft.get(Client, ANN.key)
        assert client is not None
        draft.put(replace(client, username="ann@lab"))

    store.ahead = [ahead] * MAX_CONFLICTS
    with pytest.raises(RpcError, match="other writers keep changing the same records"):
        await reconciler.change(change)
    await reconciler.change(change)
    client = lab_of(store).get(Client, ANN.key)
    assert client is not None
    assert client.username == "ann@lab"
    assert client.labels == {"n": str(MAX_CONFLICTS - 1)}


async def test_who_is_stopped_while_others_are_first_does_not_try_again(store: Shared) -> None:
    reconciler = Reconciler(store)
    begun, may_end = threading.Event(), threading.Event()
    numbers = iter(range(1000))

    def ahead() -> None:
        begun.set()
        assert may_end.wait(WAIT)
        store.others(replace(ANN, labels={"n": str(next(numbers))}))

    store.ahead = [ahead] * MAX_CONFLICTS
    async with trio.open_nursery() as nursery:
        await nursery.start(reconciler.run)
        commits = store.commits

        async def asks() -> None:
            with pytest.raises(RpcError, match="shutting down"):
                await reconciler.change(put(replace(ANN, username="ann@lab")))

        async with trio.open_nursery() as callers:
            callers.start_soon(asks)
            assert await trio.to_thread.run_sync(begun.wait, WAIT)
            nursery.cancel_scope.cancel()
            may_end.set()
            with trio.CancelScope(shield=True):
                await reconciler.failed.wait()
    assert store.commits == commits + 1


async def test_who_is_too_far_behind_looks_at_everything(nursery: trio.Nursery) -> None:
    store = MemoryStore(most_events=2)
    fill(store, ANN, BOARD)
    reconciler = Reconciler(store)
    many = [Client(namespace="lab", name=f"c{number}", uid="x") for number in range(5)]
    fill(store, *many)
    overwrite(store, {key_of(ANN): None})
    await running(reconciler, nursery)
    with trio.fail_after(WAIT):
        while (
            reconciler.committed.count(Client) != 5 or reconciler.committed.get(Client, ANN.key) is not None
        ):
            await reconciler.wait(Client, Key("lab", "c4"), 0.05)


async def test_what_is_older_than_what_it_has_written_itself_is_nothing_new(
    store: Shared, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events may come late."""
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    before = store.snapshot().cursor
    await reconciler.change(put(replace(ANN, labels={"team": "a"})))
    await reconciler.change(put(replace(ANN, labels={"team": "b"})))
    late = store.watch(before, 0)
    assert next(one.stored and one.stored.record for one in late.events) != reconciler.committed.get(
        Client, ANN.key
    )
    watch = store.watch
    delivered = trio.Event()

    def delayed(cursor: object, seconds: float) -> object:
        if not delivered.is_set():
            trio.from_thread.run_sync(delivered.set)
            return changed(late, events=late.events[:1], cursor=cursor)
        return watch(cursor, seconds)

    monkeypatch.setattr(store, "watch", delayed)
    store.wake()
    with trio.fail_after(WAIT):
        await delivered.wait()
    await trio.testing.wait_all_tasks_blocked(0.01)
    await reconciler.change(lambda *_: None)
    client = reconciler.committed.get(Client, ANN.key)
    assert client is not None
    assert client.labels == {"team": "b"}


class Lingering(Shared):
    """A store whose watch ends a while after it was told to."""

    def __init__(self) -> None:
        super().__init__()
        self.may_end = threading.Event()
        self.begun = threading.Event()
        self.ended = threading.Event()

    def watch(self, cursor: Cursor, seconds: float) -> WatchResult:
        self.begun.set()
        try:
            return super().watch(cursor, seconds)
        finally:
            self.may_end.wait(WAIT)
            self.ended.set()


@pytest.mark.parametrize("is_stuck", [False, True])
async def test_who_stops_waits_for_its_watch_but_not_for_one_that_is_stuck(
    monkeypatch: pytest.MonkeyPatch, is_stuck: bool
) -> None:
    monkeypatch.setattr(store_sync, "END_SECONDS", 0.01 if is_stuck else WAIT)
    store = Lingering()
    fill(store, ANN, BOARD)
    async with trio.open_nursery() as nursery:
        await nursery.start(Reconciler(store).run)
        await trio.to_thread.run_sync(store.begun.wait, WAIT)
        timer = threading.Timer(0.05, store.may_end.set)
        if not is_stuck:
            timer.start()
        nursery.cancel_scope.cancel()
    assert store.ended.is_set() is not is_stuck
    store.may_end.set()
    timer.cancel()
    assert store.ended.wait(WAIT)
