"""Ended leases go when they are old or too many; nothing else ever does."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_controller.lab import Client, Lease
from jumpstarter_controller.reconciler.lease_gc import (
    EVERY_SECONDS,
    LEASES_PER_DELETION,
    delete_ended_leases,
    leases_to_delete,
)
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.store import SqliteStore
from jumpstarter_controller.store.whole import fill, lab_of


def lease(number: int, ended: float | None) -> Lease:
    return Lease(
        namespace="lab",
        name=f"l{number:05}",
        client="ann",
        selector="a=b",
        duration=1e6,
        ended=ended,
        created=1.0,
    )


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 100)), max_size=30), st.integers(0, 30), st.integers(0, 100)
)
def test_old_ones_and_the_oldest_of_too_many(ends: list[int | None], most: int, keep: int) -> None:
    leases = [lease(number, None if end is None else float(end)) for number, end in enumerate(ends)]
    gone = set(leases_to_delete(leases, 100.0, float(keep), most))
    stay = [one for one in leases if one.key not in gone]
    assert all(one.ended is not None for one in leases if one.key in gone)
    kept = [one.ended for one in stay if one.ended is not None]
    young = [float(end) for end in ends if end is not None and end >= 100 - keep]
    assert sorted(kept) == sorted(young, reverse=True)[:most][::-1]


async def test_they_go_from_the_disk_too(tmp_path: Path, mock_clock: trio.testing.MockClock) -> None:
    async def until(holds: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < end
            mock_clock.jump(EVERY_SECONDS / 4)
            await trio.to_thread.run_sync(
                lambda: None
            )  # the disk is written by a thread, which no clock of ours moves

    count = 2 * LEASES_PER_DELETION + 7
    store = SqliteStore(tmp_path / "lab.sqlite")
    fill(store, Client(namespace="lab", name="ann", uid="1"))
    fill(store, *(lease(number, 100.0 + number) for number in range(count)))
    now = 1000.0 + count
    reconciler = Reconciler(store, clock=lambda: now + trio.current_time())
    async with trio.open_nursery() as nursery:
        await nursery.start(reconciler.run)
        await nursery.start(delete_ended_leases, reconciler, 1e6, count - 10)
        await until(lambda: reconciler.committed.count(Lease) == count - 10)
        now += 1e6
        await until(lambda: not reconciler.committed.count(Lease))
        nursery.cancel_scope.cancel()
    store.close()
    again = SqliteStore(tmp_path / "lab.sqlite")
    assert lab_of(again).count(Lease) == 0
    assert lab_of(again).count(Client) == 1
    again.close()


async def test_a_clock_that_is_set_forward_makes_nothing_old(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    store = SqliteStore(tmp_path / "lab.sqlite")
    fill(store, Client(namespace="lab", name="ann", uid="1"), lease(1, 1000.0))
    ahead = 0.0
    reconciler = Reconciler(
        store, clock=lambda: 1000.0 + ahead + trio.current_time(), steady=trio.current_time
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(reconciler.run)
        await nursery.start(delete_ended_leases, reconciler, 3600.0, 100)
        ahead = 1e9
        await trio.sleep(10 * EVERY_SECONDS)
        assert reconciler.clock.moved == 1e9
        await reconciler.change(lambda _lab, _now: None)  # behind all that was asked for before
        assert reconciler.committed.count(Lease) == 1
        await trio.sleep(3600.0)
        while reconciler.committed.count(Lease):  # the disk is written by a thread
            await trio.sleep(EVERY_SECONDS)
        nursery.cancel_scope.cancel()
    store.close()
