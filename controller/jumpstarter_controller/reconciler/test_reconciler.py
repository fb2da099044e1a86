"""Changes count when they are on the disk, all of them or none, whoever raises, leaves or shuts down meanwhile."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence

import pytest
import trio
from jumpstarter_proto.rpc import RpcError, StatusCode
from msgspec.structs import replace

from jumpstarter_controller.lab import (
    Client,
    ConditionType,
    Draft,
    Exporter,
    ExporterStatus,
    Key,
    Lease,
    Record,
)
from jumpstarter_controller.reconciler.reconciler import MAX_SLEEP_SECONDS, Reconciler
from jumpstarter_controller.store import Change, MemoryStore, StoreError, StoreFullError
from jumpstarter_controller.store.contract import Written
from jumpstarter_controller.store.whole import fill, lab_of

ANN = Client(namespace="lab", name="ann", uid="1")
BOARD = Exporter(
    namespace="lab", name="one", uid="2", devices=1, labels={"board": "rpi4"}, status=ExporterStatus.AVAILABLE
)


class Disk(MemoryStore):
    """A store that can be stopped in the middle of a write, and can be full."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False
        self.open = threading.Event()
        self.open.set()
        self.writing = threading.Event()
        self.writes = 0

    def commit(self, changes: Sequence[Change]) -> Sequence[Written]:
        self.writing.set()
        assert self.open.wait(60)
        if self.full:
            raise StoreFullError("no room; make some")
        self.writes += 1
        return super().commit(changes)


def put(*records: Record) -> Callable[[Draft, float], None]:
    def change(draft: Draft, _: float) -> None:
        for record in records:
            draft.put(record)

    return change


def lease(name: str, **more: object) -> Lease:
    fields: dict[str, object] = {"selector": "board=rpi4", "duration": 60.0, **more}
    return Lease(namespace="lab", name=name, client="ann", **fields)  # type: ignore[arg-type]


@pytest.fixture
def disk() -> Disk:
    return Disk()


async def test_what_raises_leaves_no_trace_and_disturbs_nobody(disk: Disk, nursery: trio.Nursery) -> None:
    reconciler = Reconciler(disk)
    outcomes: dict[str, object] = {}

    def half(draft: Draft, _: float) -> None:
        draft.put(lease("half"))
        draft.remove(ANN)
        raise ZeroDivisionError

    async def ask(name: str, change: Callable[[Draft, float], None]) -> None:
        try:
            await reconciler.change(change)
        except ZeroDivisionError:
            outcomes[name] = "raised"
        else:
            outcomes[name] = "done"

    await nursery.start(reconciler.run)
    await reconciler.change(put(ANN, BOARD))
    async with trio.open_nursery() as asking:  # all in one turn
        asking.start_soon(ask, "before", put(lease("a")))
        asking.start_soon(ask, "broken", half)
        asking.start_soon(ask, "after", put(lease("b")))
    assert outcomes == {"before": "done", "broken": "raised", "after": "done"}
    for lab in (reconciler.committed, lab_of(disk)):
        assert {one.name for one in lab.all(Lease)} == {"a", "b"}
        assert lab.get(Client, ANN.key) == ANN


async def test_a_change_that_cannot_be_scheduled_goes_and_the_lab_stays(
    disk: Disk, nursery: trio.Nursery
) -> None:
    reconciler = Reconciler(disk)
    await nursery.start(reconciler.run)
    await reconciler.change(put(ANN, BOARD))
    broken = lease("broken", created="yesterday")  # what no service lets through, and no order has
    with pytest.raises(RpcError, match="its log has the details"):
        await reconciler.change(put(broken, lease("other")))
    await reconciler.change(put(lease("good")))
    assert [one.name for one in reconciler.committed.all(Lease)] == ["good"]


async def test_nothing_is_seen_or_answered_before_it_is_kept(disk: Disk, nursery: trio.Nursery) -> None:
    reconciler = Reconciler(disk)
    await nursery.start(reconciler.run)
    disk.open.clear()
    answered = trio.Event()

    async def ask() -> None:
        await reconciler.change(put(ANN))
        answered.set()

    nursery.start_soon(ask)
    await trio.to_thread.run_sync(disk.writing.wait)
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert reconciler.committed.get(Client, ANN.key) is None
    assert not answered.is_set()
    disk.open.set()
    await answered.wait()
    assert reconciler.committed.get(Client, ANN.key) == ANN


async def test_a_full_disk_refuses_and_loses_nothing(
    disk: Disk,
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    reconciler = Reconciler(disk, clock=trio.current_time)
    await nursery.start(reconciler.run)
    reconciler.presence.connected(BOARD.key, 0)
    await reconciler.change(put(ANN, BOARD))
    await reconciler.change(put(lease("held")))
    await reconciler.change(put(lease("waits")))
    disk.full = True
    for _ in range(3):
        with pytest.raises(StoreError, match="make some"):
            await reconciler.change(put(lease("refused")))
        assert reconciler.committed.get(Lease, Key("lab", "refused")) is None
    assert reconciler.counters.failed_writes >= 3
    await trio.sleep(100)
    held = reconciler.committed.get(Lease, Key("lab", "held"))
    assert held is not None
    assert held.active, "it has not ended as long as that cannot be kept"
    disk.full = False
    while held.ended is None:  # it tries again by itself
        await reconciler.wait(Lease, held.key, math.inf)
        held = reconciler.committed.get(Lease, held.key)
        assert held is not None
    waits = reconciler.committed.get(Lease, Key("lab", "waits"))
    assert waits is not None
    assert waits.active
    assert lab_of(disk).get(Lease, waits.key) == waits
    assert [one.getMessage() for one in caplog.records if one.levelname == "ERROR"] == ["no room; make some"]


async def test_a_caller_that_leaves_does_not_take_its_change_along(disk: Disk, nursery: trio.Nursery) -> None:
    reconciler = Reconciler(disk)
    await nursery.start(reconciler.run)
    disk.open.clear()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as asking:
            asking.start_soon(reconciler.change, put(ANN))
            await trio.to_thread.run_sync(disk.writing.wait)
            scope.cancel()
    disk.open.set()
    await reconciler.change(put(BOARD))
    assert reconciler.committed.get(Client, ANN.key) == ANN


async def test_a_shutdown_waits_for_the_write_and_tells_everybody(disk: Disk) -> None:
    reconciler = Reconciler(disk)
    outcomes: dict[str, str] = {}

    async def ask(record: Record) -> None:
        try:
            await reconciler.change(put(record))
        except RpcError as error:
            outcomes[record.name] = error.code.name
        else:
            outcomes[record.name] = "kept"

    async with trio.open_nursery() as asking, trio.open_nursery() as running:
        await running.start(reconciler.run)
        disk.open.clear()
        asking.start_soon(ask, ANN)
        await trio.to_thread.run_sync(disk.writing.wait)
        asking.start_soon(ask, BOARD)  # comes in the middle of the write
        await trio.testing.wait_all_tasks_blocked(0.01)
        running.cancel_scope.cancel()
        disk.open.set()
    assert outcomes == {"ann": "kept", "one": StatusCode.UNAVAILABLE.name}
    assert set(disk.snapshot().records) == {(Client, ANN.key)}
    with pytest.raises(RpcError, match="shutting down"):
        await reconciler.change(put(BOARD))


async def test_a_restart_gives_every_exporter_a_minute(
    disk: Disk, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    fill(disk, ANN, BOARD)
    reconciler = Reconciler(disk, clock=trio.current_time)
    await nursery.start(reconciler.run)
    await trio.sleep(50)
    await reconciler.change(put(lease("early")))
    await trio.sleep(11)
    await reconciler.change(put(lease("late")))
    early, late = (reconciler.committed.get(Lease, Key("lab", name)) for name in ("early", "late"))
    assert early is not None
    assert late is not None
    assert early.active
    condition = late.condition(ConditionType.PENDING)
    assert condition is not None
    assert condition.reason == "Offline"


async def test_a_board_that_changes_hands_in_one_turn_has_its_new_holder(
    disk: Disk, nursery: trio.Nursery
) -> None:
    reconciler = Reconciler(disk)
    await nursery.start(reconciler.run)
    reconciler.presence.connected(BOARD.key, reconciler.clock())
    await reconciler.change(put(ANN, BOARD, lease("first", sequence=1)))
    first = reconciler.committed.holder(BOARD.key)
    assert first is not None
    assert first.name == "first"
    # Who comes is written before who goes.
    await reconciler.change(put(lease("second", sequence=2), replace(first, release=True)))
    for lab in (reconciler.committed, lab_of(disk)):
        held = lab.holder(BOARD.key)
        assert held is not None
        assert held.name == "second"


class Clocks:
    """A wall clock that is set, beside one that is not."""

    def __init__(self, disk: Disk, ahead: float = 1e9) -> None:
        self.ahead = ahead
        self.reconciler = Reconciler(
            disk, clock=lambda: trio.current_time() + self.ahead, steady=trio.current_time
        )

    async def start(self, nursery: trio.Nursery, **more: object) -> None:
        await nursery.start(self.reconciler.run)
        self.reconciler.presence.connected(BOARD.key, self.reconciler.clock())
        await self.reconciler.change(put(ANN, BOARD, lease("long", **more)))

    async def end(self) -> Lease:
        while (
            found := self.reconciler.committed.get(Lease, Key("lab", "long"))
        ) is None or found.ended is None:
            await self.reconciler.wait(Lease, Key("lab", "long"), math.inf)
        return found


@pytest.mark.parametrize("step", [-3600.0, -1.5, 1.5, 86400.0])
async def test_a_lease_lasts_its_time_when_the_wall_clock_is_set_and_the_log_says_so(
    disk: Disk,
    nursery: trio.Nursery,
    step: float,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clocks = Clocks(disk)
    await clocks.start(nursery, duration=600.0)
    began = trio.current_time()
    await trio.sleep(100)
    clocks.ahead += step
    ended = await clocks.end()
    assert trio.current_time() - began == pytest.approx(600, abs=0.1)
    assert ended.begun == pytest.approx(1e9 + step + began, abs=0.1), "as the clock is now"
    assert "the clock was set" in caplog.text


async def test_times_of_day_are_the_wall_clocks_and_it_is_noticed_soon_that_it_was_set(
    disk: Disk, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    clocks = Clocks(disk)
    await clocks.start(nursery, duration=86400.0, begin_time=1e9, end_time=1e9 + 86400.0)
    clocks.ahead += 86400.0
    began = trio.current_time()
    await clocks.end()
    assert trio.current_time() - began <= MAX_SLEEP_SECONDS + 1


async def test_a_clock_that_is_set_while_the_disk_is_full_is_followed_when_there_is_room(
    disk: Disk, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    clocks = Clocks(disk)
    await clocks.start(nursery, duration=600.0)
    began = trio.current_time()
    disk.full = True
    clocks.ahead -= 3600.0
    await trio.sleep(2 * MAX_SLEEP_SECONDS)
    disk.full = False
    await clocks.end()
    assert trio.current_time() - began == pytest.approx(600, abs=0.1)


async def test_a_computer_that_starts_years_behind_prolongs_no_lease_when_it_learns_the_time(
    disk: Disk,
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As a board without a clock does; another lease begins before it knows better."""
    right = 1e9 - trio.current_time()
    two = replace(BOARD, name="two", uid="3", labels={"board": "other"})
    old = lease("long", duration=600.0, begun=1e9 - 100, exporter="one", created=1e9 - 100)
    fill(disk, ANN, BOARD, two, old)
    clocks = Clocks(disk, ahead=right - 1e8)
    assert "behind the newest stored time" in caplog.text
    reconciler = clocks.reconciler
    await nursery.start(reconciler.run)
    for board in (BOARD, two):
        reconciler.presence.connected(board.key, reconciler.clock())
    await reconciler.change(put(lease("new", selector="board=other", duration=300.0)))
    began = trio.current_time()
    await trio.sleep(100)
    clocks.ahead = right
    await trio.sleep(MAX_SLEEP_SECONDS + 1)
    await reconciler.change(lambda *_: None)  # it has noticed by then
    new = reconciler.committed.get(Lease, Key("lab", "new"))
    assert new is not None
    assert new.expiry == pytest.approx(1e9 + began + 300, abs=0.5)
    await clocks.end()
    assert trio.current_time() - began == pytest.approx(500, abs=0.5)


async def test_nobody_is_gone_because_the_clock_was_set(
    disk: Disk, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    clocks = Clocks(disk)
    await clocks.start(nursery, duration=600.0)
    reconciler = clocks.reconciler
    await reconciler.change(put(lease("waiting", sequence=1, waited=True)))
    waiting = reconciler.committed.get(Lease, Key("lab", "waiting"))
    assert waiting is not None
    reconciler.presence.disconnected(BOARD.key, reconciler.clock())
    reconciler.heard_of(waiting)
    await trio.sleep(10)
    clocks.ahead += 3600.0
    await trio.sleep(MAX_SLEEP_SECONDS + 10)
    await reconciler.change(lambda *_: None)  # it has decided by then
    board = reconciler.committed.get(Exporter, BOARD.key)
    assert board is not None
    assert board.status is not ExporterStatus.OFFLINE
    assert reconciler.committed.get(Lease, waiting.key) == waiting


async def test_a_clock_that_drifts_a_little_moves_nothing(
    disk: Disk, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    clocks = Clocks(disk)
    await clocks.start(nursery, duration=600.0)
    writes = disk.writes
    clocks.ahead += 0.9
    await trio.sleep(2 * MAX_SLEEP_SECONDS)
    assert disk.writes == writes


async def test_whoever_waits_for_a_record_waits_no_longer_than_it_may_and_leaves_nothing(
    disk: Disk, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    reconciler = Reconciler(disk, clock=trio.current_time)
    await nursery.start(reconciler.run)
    began = trio.current_time()
    with trio.fail_after(100):
        await reconciler.wait(Client, ANN.key, 5)
    assert trio.current_time() - began == 5
    assert not reconciler._watchers
    with trio.move_on_after(1):
        await reconciler.wait(Client, ANN.key, math.inf)
    assert not reconciler._watchers

    async def change() -> None:
        await trio.sleep(3)
        await reconciler.change(put(ANN))

    nursery.start_soon(change)
    began = trio.current_time()
    await reconciler.wait(Client, ANN.key, math.inf)
    assert trio.current_time() - began == 3
    assert not reconciler._watchers
