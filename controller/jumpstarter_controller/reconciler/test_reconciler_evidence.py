"""What cannot be taken back is decided upon what the store has now, whatever was heard of it until then."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Sequence
from itertools import count

import pytest
import trio
import trio.testing
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.rpc import RpcError, StatusCode
from msgspec.structs import replace

from jumpstarter_controller.lab import (
    Client,
    Draft,
    Exporter,
    ExporterDevices,
    Key,
    Lease,
    Policy,
    Record,
    Rule,
)
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
from jumpstarter_controller.scheduling import POLICY_SECONDS
from jumpstarter_controller.services.changes import create_lease, update_lease
from jumpstarter_controller.services.policy_changes import apply_policies
from jumpstarter_controller.store import Change, Stored, StoreError, StoreEvent, TooOldError, Written
from jumpstarter_controller.store.contract import Cursor, Snapshot, WatchResult, key_of
from jumpstarter_controller.store.whole import fill, lab_of, overwrite

OTHER = Exporter(namespace="lab", name="other", uid="9", labels={"board": "other"})
NOBODY = Policy(namespace="lab", name="p", rules=())
ANYBODY = replace(NOBODY, rules=(Rule(("",), maximum_duration=60.0),))


class Deaf(Shared):
    """A store of which nobody hears what others change, but for the records in `heard`; who asks is told."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: set[RecordRef] = set()
        self.asked: list[set[type[Record]]] = []
        self.wrong = ""
        self.is_forgetful = False
        self.meanwhile: Callable[[], None] = lambda: None
        """Somebody else does this whenever it is asked what is newer."""
        self._late: list[StoreEvent] = []
        self._ears = threading.Lock()

    def watch(self, cursor: Cursor, seconds: float) -> WatchResult:
        seen = super().watch(cursor, seconds)
        with self._ears:
            self._late += [one for one in seen.events if one.ref not in self.heard]
        return WatchResult([one for one in seen.events if one.ref in self.heard], seen.cursor)

    def newer(self, cursor: Cursor, kinds: Collection[type[Record]]) -> Sequence[StoreEvent]:
        self.asked.append(set(kinds))
        self.meanwhile()
        if self.is_forgetful:
            raise TooOldError
        if self.wrong:
            raise StoreError(self.wrong)
        newer = super().newer(cursor, kinds)
        with self._ears:
            return [*(one for one in self._late if one.ref[0] in kinds), *newer]

    def snapshot(self, *, whole: bool = True) -> Snapshot:
        if self.wrong:
            raise StoreError(self.wrong)
        return super().snapshot(whole=whole)


@pytest.fixture
def store() -> Deaf:
    store = Deaf()
    fill(store, ANN, BOARD)
    return store


async def hears(reconciler: Reconciler, policy: Policy) -> None:
    with trio.fail_after(WAIT):
        while reconciler.committed.get(Policy, policy.key) != policy:
            await reconciler.wait(Policy, policy.key, math.inf)


async def asks(reconciler: Reconciler, **wish: object) -> None:
    wish = wish or {"selector": "board=rpi4"}
    asked = client_pb2.Lease(**wish)  # type: ignore[arg-type]
    asked.duration.seconds = 60
    client = reconciler.committed.get(Client, ANN.key)
    assert client is not None
    await reconciler.change(lambda lab, now: create_lease(lab, now, client, MINE.name, asked))


@pytest.mark.parametrize("is_forgetful", [False, True])
@pytest.mark.parametrize(
    ("before", "after", "wish"),
    [
        pytest.param([OTHER], [BOARD], {"selector": "board=rpi4"}, id="a board by its label"),
        pytest.param([OTHER], [BOARD], {"exporter_name": "one"}, id="a board by its name"),
        pytest.param([replace(BOARD, labels={})], [BOARD], {"selector": "board=rpi4"}, id="its label"),
        pytest.param(
            [replace(BOARD, labels={})],
            [BOARD],
            {"selector": "board=rpi4", "exporter_name": "one"},
            id="both",
        ),
        pytest.param([replace(BOARD, enabled=False)], [BOARD], {"selector": "board=rpi4"}, id="enabled"),
        pytest.param(
            [replace(BOARD, enabled=False)], [BOARD], {"exporter_name": "one"}, id="enabled by its name"
        ),
        pytest.param([replace(BOARD, gone_since=1.0)], [BOARD], {"exporter_name": "one"}, id="come back"),
        pytest.param(
            [BOARD, replace(ANN, enabled=False)], [ANN], {"selector": "board=rpi4"}, id="client enabled"
        ),
        pytest.param([BOARD, NOBODY], [ANYBODY], {"selector": "board=rpi4"}, id="a policy"),
    ],
)
async def test_a_lease_is_not_refused_for_what_was_otherwise_a_moment_ago(
    nursery: trio.Nursery,
    before: list[Record],
    after: list[Record],
    wish: dict[str, str],
    is_forgetful: bool,
) -> None:
    store = Deaf()
    fill(store, ANN, *before)
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    fill(store, *after)
    store.is_forgetful = is_forgetful
    await asks(reconciler, **wish)
    found = await until(reconciler, lambda one: one is not None)
    assert found is not None
    assert found.active, found.conditions
    assert lab_of(store).get(Lease, MINE) == found


async def test_a_lease_is_refused_in_the_same_write_when_nothing_is_newer(
    store: Deaf, nursery: trio.Nursery
) -> None:
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    await reconciler.change(lambda *_: None)
    commits = store.commits
    await asks(reconciler, selector="board=rpi5")
    found = reconciler.committed.get(Lease, MINE)
    assert found is not None
    assert found.ended is not None
    assert [one.reason for one in found.conditions] == ["NoAccess"]
    assert store.commits == commits + 1
    assert store.asked == [{Exporter}]


@pytest.mark.parametrize("is_forgetful", [False, True])
async def test_what_cannot_be_looked_up_is_not_decided_and_is_when_it_can(
    store: Deaf, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, is_forgetful: bool
) -> None:
    monkeypatch.setattr(store_sync, "RETRY_SECONDS", 0.01)
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    store.is_forgetful = is_forgetful
    store.wrong = "the network is gone; look after it"
    await asks(reconciler, selector="board=rpi5")
    while len(store.asked) < 3:
        await reconciler.change(lambda *_: None)
    found = reconciler.committed.get(Lease, MINE)
    assert found is not None
    assert found.ended is None
    await reconciler.change(put(Client(namespace="lab", name="bob", uid="3")))
    assert not reconciler.trouble
    store.wrong = ""
    await until(reconciler, lambda one: one is not None and one.ended is not None)


async def test_while_others_change_something_all_the_time_requests_are_answered_and_nothing_else_waits(
    store: Deaf, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_sync, "RETRY_SECONDS", 0.01)
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    numbers = count()
    store.meanwhile = lambda: fill(store, replace(OTHER, status_message=str(next(numbers))))
    refusals: list[str] = []

    def forbidden(draft: Draft, now: float) -> None:
        raise RpcError(StatusCode.NOT_FOUND, "there is no such lease")

    async def is_refused() -> None:
        with pytest.raises(RpcError) as caught:
            await reconciler.change(forbidden)
        refusals.append(caught.value.details)

    with trio.fail_after(WAIT):
        async with trio.open_nursery() as others:
            others.start_soon(is_refused)
            others.start_soon(reconciler.change, put(Client(namespace="lab", name="bob", uid="3")))
            others.start_soon(reconciler.change, put(lease(selector="board=rpi5")))
    assert refusals == ["there is no such lease"]
    assert Lease in store.asked[0]
    assert all(ExporterDevices not in kinds for kinds in store.asked), (
        "they are large, and nobody is refused for them"
    )
    assert reconciler.committed.get(Client, Key("lab", "bob")) is not None
    other = reconciler.committed.get(Exporter, OTHER.key)
    assert other is not None
    assert other.status_message
    waiting = reconciler.committed.get(Lease, MINE)
    assert waiting is not None
    assert waiting.ended is None
    store.meanwhile = lambda: None
    await until(reconciler, lambda one: one is not None and one.ended is not None)


async def test_what_is_not_allowed_is_looked_up_again_before_it_is_refused(
    store: Deaf, nursery: trio.Nursery
) -> None:
    fill(store, ANYBODY)
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    await asks(reconciler)
    await until(reconciler, lambda one: one is not None and one.active)
    asked = client_pb2.Lease()
    asked.duration.seconds = 600

    def extend(draft: Draft, now: float) -> Lease:
        return update_lease(draft, now, ANN, MINE, asked)

    with pytest.raises(RpcError, match="no access policy lets client ann have one for 60 s at most"):
        await reconciler.change(extend)
    fill(store, replace(ANYBODY, rules=(Rule(("",), maximum_duration=3600.0),)))
    await reconciler.change(extend)
    extended = lab_of(store).get(Lease, MINE)
    assert extended is not None
    assert extended.duration == 600.0


async def test_nobody_is_refused_for_a_policy_that_was_looked_up_just_now(
    store: Deaf, nursery: trio.Nursery
) -> None:
    fill(store, NOBODY)
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    fill(store, replace(NOBODY, exporters="board=rpi4"))
    await asks(reconciler)
    found = reconciler.committed.get(Lease, MINE)
    assert found is not None
    assert found.ended is None
    await until(reconciler, lambda one: one is not None and one.ended is not None)


@pytest.mark.parametrize("is_granted", [True, False])
async def test_while_policies_change_nobody_is_refused_for_them(
    nursery: trio.Nursery, is_granted: bool
) -> None:
    """A batch of them that comes in another order than was meant."""
    store = Shared()
    now = [1000.0]
    fill(store, ANN, BOARD, ANYBODY)
    reconciler = Reconciler(store, clock=lambda: now[0])
    await running(reconciler, nursery)
    store.others(NOBODY)
    await hears(reconciler, NOBODY)
    await asks(reconciler)
    waiting = await until(reconciler, lambda one: one is not None and bool(one.conditions))
    assert waiting is not None
    assert (waiting.ended, waiting.exporter) == (None, "")
    assert waiting.conditions[-1].message.startswith(
        "policies have just changed, so the decision is delayed for a moment: no access policy lets client ann have one"
    )
    now[0] += POLICY_SECONDS * 0.9
    if is_granted:
        store.others(replace(ANYBODY, name="q"))
        await until(reconciler, lambda one: one is not None and one.active)
        return
    await reconciler.change(lambda *_: None)
    assert reconciler.committed.get(Lease, MINE) == waiting
    now[0] += POLICY_SECONDS * 0.2
    await reconciler.change(lambda *_: None)
    ended = reconciler.committed.get(Lease, MINE)
    assert ended is not None
    assert ended.ended == now[0]


async def test_nobody_is_refused_while_only_a_part_of_our_policies_could_be_written(
    store: Deaf, nursery: trio.Nursery
) -> None:
    reconciler = Reconciler(store)
    await running(reconciler, nursery)

    def stops(changes: Sequence[Change], commit: Callable[[Sequence[Change]], Sequence[Written]]) -> None:
        error = StoreError("the network is gone; look after it")
        error.done = commit(changes[:1])
        raise error

    store.stops = stops
    policies = [NOBODY, replace(ANYBODY, name="q")]
    with pytest.raises(StoreError, match="the network is gone"):
        await reconciler.change(lambda lab, now: apply_policies(lab, now, policies))
    assert lab_of(store).count(Policy) == 1
    await asks(reconciler)
    await reconciler.change(lambda lab, now: apply_policies(lab, now, policies))
    found = await until(reconciler, lambda one: one is not None and (one.active or one.ended is not None))
    assert found is not None
    assert found.active


async def test_what_was_heard_but_not_taken_in_yet_counts_as_looked_up(
    store: Deaf, nursery: trio.Nursery
) -> None:
    overwrite(store, {key_of(BOARD): None})
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    store.heard = {key_of(BOARD)}
    has_heard = threading.Event()
    read = store.read

    def slow(ref: RecordRef) -> Stored | None:
        """While it looks whether a client is gone, another makes the board."""
        store.read = read  # type: ignore[method-assign]
        fill(store, BOARD)
        assert has_heard.wait(WAIT)
        return read(ref)

    store.read = slow  # type: ignore[method-assign]
    reconciler._store_sync._has_news = has_heard.set
    theirs = replace(lease("theirs"), client="nobody")
    await reconciler.change(put(lease(), theirs))
    found = reconciler.committed.get(Lease, MINE)
    assert found is not None
    assert found.active


async def test_a_clock_that_is_set_back_after_policies_have_changed_keeps_nobody_waiting(
    nursery: trio.Nursery,
) -> None:
    store = Shared()
    now = [1000.0]
    fill(store, ANN, BOARD, ANYBODY)
    reconciler = Reconciler(store, clock=lambda: now[0])
    await running(reconciler, nursery)
    store.others(NOBODY)
    await hears(reconciler, NOBODY)
    now[0] -= 500.0
    await asks(reconciler)
    ended = reconciler.committed.get(Lease, MINE)
    assert ended is not None
    assert ended.ended is not None


async def test_policies_that_are_changed_by_us_are_decided_upon_at_once(
    store: Deaf, nursery: trio.Nursery
) -> None:
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    await reconciler.change(lambda lab, now: apply_policies(lab, now, [NOBODY]))
    await asks(reconciler)
    ended = reconciler.committed.get(Lease, MINE)
    assert ended is not None
    assert ended.ended is not None


async def test_a_lease_that_runs_is_not_ended_for_another_whose_end_was_not_heard_of(
    store: Deaf, nursery: trio.Nursery
) -> None:
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    await asks(reconciler)
    mine = await until(reconciler, lambda one: one is not None and one.active)
    assert mine is not None
    theirs = lease("theirs", exporter="one", begun=reconciler.clock())
    store.heard = {key_of(theirs)}
    fill(store, replace(mine, ended=reconciler.clock()), replace(BOARD, lease="theirs"), theirs)
    with trio.fail_after(WAIT):
        while (found := reconciler.committed.get(Lease, theirs.key)) is None:
            await reconciler.wait(Lease, theirs.key, math.inf)
        for _ in range(3):
            await reconciler.change(lambda *_: None)
    assert found.ended is None
    assert reconciler.committed.get(Lease, theirs.key) == lab_of(store).get(Lease, theirs.key)
    holder = reconciler.committed.holder(BOARD.key)
    assert holder is not None
    assert holder.name == "theirs"


async def test_a_client_that_was_taken_away_and_made_again_keeps_its_leases(
    store: Deaf, nursery: trio.Nursery
) -> None:
    reconciler = Reconciler(store)
    await running(reconciler, nursery)
    await asks(reconciler)
    await until(reconciler, lambda one: one is not None and one.active)
    store.heard = {key_of(ANN)}
    again = replace(ANN, uid="new")

    def replaced() -> None:
        with store._changed:  # nobody hears of the one without the other
            overwrite(store, {key_of(ANN): None})
            store.heard = set()
            fill(store, again)

    await trio.to_thread.run_sync(replaced)
    for _ in range(3):
        await reconciler.change(lambda *_: None)
        await trio.testing.wait_all_tasks_blocked(0.01)
    found = reconciler.committed.get(Lease, MINE)
    assert found is not None
    assert found.ended is None
