"""Whatever a store does that it may do, and whoever else writes to it: what was acknowledged is there, once."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Sequence

import pytest
import trio
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.rpc import RpcError
from msgspec.structs import replace

from jumpstarter_controller.lab import Client, Draft, Exporter, ExporterStatus, Key, Lease, Record
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.services import changes
from jumpstarter_controller.store import (
    Change,
    Conflict,
    Half,
    MemoryStore,
    StoreError,
    StoreEvent,
    Unknown,
    Written,
)
from jumpstarter_controller.store.contract import Cursor, WatchResult
from jumpstarter_controller.store.test_contract import behind, torn
from jumpstarter_controller.store.whole import fill, lab_of

ANN = Client(namespace="lab", name="ann", uid="1")
BOARDS = [
    Exporter(
        namespace="lab",
        name=name,
        uid=name,
        devices=1,
        labels={"board": "rpi4"},
        status=ExporterStatus.AVAILABLE,
    )
    for name in "abc"
]
OPERATIONS = 12
USERS = 4


class Shaken(MemoryStore):
    """It cuts batches, does not know whether it has written, and tells of one kind of records later than of another."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.is_shaken = False
        self._held: dict[type[Record], list[StoreEvent]] = defaultdict(list)

    def commit(self, changes: Sequence[Change]) -> Sequence[Written]:
        if not self.is_shaken or self.random.random() < 0.5:
            return super().commit(changes)
        count = self.random.randrange(len(changes))
        choice, stopped = self.random.randrange(4), changes[count]
        done, also = torn(self, changes, count, self.random, is_unsure=choice < 3)
        match choice:
            case 0:
                raise Conflict(stopped.ref, done, also)
            case 1:
                raise Unknown(stopped.ref, done, also)
            case 2:
                super().commit(behind([stopped], done))
                raise Unknown(stopped.ref, done, also)
            case _:
                error = StoreError("the network is gone; look after it")
                error.done = done
                raise error

    def watch(self, cursor: Cursor, seconds: float) -> WatchResult:
        seen = super().watch(cursor, min(seconds, 0.01))
        for event in seen.events:
            self._held[event.ref[0]].append(event)
        told: list[StoreEvent] = []
        for kind, events in self._held.items():
            if not self.is_shaken or self.random.random() < 0.5:
                told += events
                self._held[kind] = []
        return WatchResult(told, seen.cursor)

    def newer(self, cursor: Cursor, kinds: Collection[type[Record]]) -> Sequence[StoreEvent]:
        held = [event for kind in kinds for event in self._held[kind]]
        return [*held, *super().newer(cursor, kinds)]


class Users:
    """They ask for leases, extend and release them, and remember what they were told."""

    def __init__(self, reconciler: Reconciler, seed: int) -> None:
        self.reconciler = reconciler
        self.random = random.Random(seed)
        self.made: dict[Key, float] = {}
        """Acknowledged leases with their durations."""
        self.refused: dict[Key, float] = defaultdict(float)
        """By lease: how much longer it was to be, but for an error."""
        self.released: set[Key] = set()
        self.number = 0

    async def one(self) -> None:
        for _ in range(OPERATIONS):
            try:
                await self.random.choice([self.create, self.create, self.extend, self.release])()
            except (StoreError, RpcError):
                continue

    async def create(self) -> None:
        self.number += 1
        name = f"l{self.number:03}"
        asked = client_pb2.Lease(selector="board=rpi4")
        asked.duration.seconds = 3600
        lease = await self.reconciler.change(
            lambda lab, now: changes.create_lease(lab, now, ANN, name, asked)
        )
        self.made[lease.key] = 3600.0

    async def extend(self) -> None:
        if not self.made:
            return
        key = self.random.choice(sorted(self.made))
        more = self.random.randrange(1, 1000)

        def apply(draft: Draft, now: float) -> Lease:
            asked = client_pb2.Lease()
            asked.duration.seconds = int(changes.owned(draft, ANN, key, "UpdateLease").duration) + more
            return changes.update_lease(draft, now, ANN, key, asked)

        try:
            await self.reconciler.change(apply)
        except (StoreError, RpcError):  # what was unknown may have been written before others kept it busy
            self.refused[key] += more
            raise
        self.made[key] += more

    async def release(self) -> None:
        if not self.made:
            return
        key = self.random.choice(sorted(self.made))

        def apply(draft: Draft, _: float) -> None:
            changes.release(draft, changes.owned(draft, ANN, key, "DeleteLease"))

        await self.reconciler.change(apply)
        self.released.add(key)


def another(store: Shaken, seed: int) -> None:
    """Somebody else makes leases and changes labels, as a person with an editor does."""
    chance = random.Random(seed)
    for number in range(OPERATIONS):
        lease = Lease(
            namespace="lab", name=f"x{number:03}", client="ann", selector="board=rpi4", duration=60.0
        )
        MemoryStore.commit(store, [Change((Lease, lease.key), Half.SPEC, lease, None)])
        board = chance.choice(BOARDS)
        stored = store.read((Exporter, board.key))
        assert stored is not None
        assert isinstance(stored.record, Exporter)
        changed = replace(stored.record, labels={"board": "rpi4", "n": str(number)})
        try:
            MemoryStore.commit(
                store, [Change((Exporter, board.key), Half.SPEC, changed, stored.revision, "editor")]
            )
        except Conflict:
            continue  # they look again, and try another time


def check(draft: Draft) -> None:
    active = [lease.exporter for lease in draft.all(Lease) if lease.active]
    assert len(active) == len(set(active)), "a board is leased twice"
    assert not draft.at_odds()


@pytest.mark.parametrize("seed", range(12))
async def test_what_was_acknowledged_is_there_once_whatever_happens(
    seed: int, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    store = Shaken(seed)
    fill(store, ANN, *BOARDS)
    reconciler = Reconciler(store)
    await nursery.start(reconciler.run)
    for board in BOARDS:
        reconciler.presence.connected(board.key, reconciler.clock())
    users = Users(reconciler, seed)
    store.is_shaken = True
    async with trio.open_nursery() as asking:
        asking.start_soon(trio.to_thread.run_sync, another, store, seed)
        for _ in range(USERS):
            asking.start_soon(users.one)
    store.is_shaken = False
    with trio.fail_after(30):
        while True:
            await reconciler.change(lambda *_: None)
            kept = lab_of(store)
            waits = [one for one in kept.open_leases() if not one.exporter]
            free = [one for one in kept.all(Exporter) if not one.lease]
            same = all(
                kept.get(kind, record.key) == record
                for kind in (Lease, Exporter, Client)
                for record in reconciler.committed.all(kind)
            )
            if same and kept.count(Lease) == reconciler.committed.count(Lease) and not (waits and free):
                break
            await trio.sleep(0.01)
    check(kept)
    for key, duration in users.made.items():
        lease = kept.get(Lease, key)
        assert lease is not None, "an acknowledged lease is lost"
        assert lease.duration >= duration, "an acknowledged change is lost"
        assert lease.duration <= duration + users.refused[key], "a change was made twice"
        if key in users.released:
            assert lease.ended is not None, "an acknowledged release is lost"
    assert kept.count(Lease) >= OPERATIONS
    assert "cannot be scheduled" not in caplog.text
