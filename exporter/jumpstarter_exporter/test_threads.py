"""Worker threads are counted for each device and each board, and whoever gets none is told who has them."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_exporter import isolation, threads
from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.device_state import Lifecycle
from jumpstarter_exporter.devices.inventory import BoardDevices, Inventory
from jumpstarter_exporter.devices.spec import Spec
from jumpstarter_exporter.driver import Driver, export
from jumpstarter_exporter.session.session import Session
from jumpstarter_exporter.session.test_borrowing import Users, until
from jumpstarter_exporter.threads import BoardThreads, DeviceThreads, HeldThread


@dataclass(kw_only=True, eq=False)
class Blocking(Driver):
    client: ClassVar[str] = "example.Client"
    go_on: ClassVar[threading.Event]

    @export
    def block(self) -> None:
        self.go_on.wait(60)

    @export
    def answer(self) -> str:
        return "well"


@pytest.fixture
def go_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    event = threading.Event()
    monkeypatch.setattr(Blocking, "go_on", event, raising=False)
    yield event
    event.set()


def board(inventory: Inventory, name: str, devices: int) -> BoardDevices:
    return inventory.add(
        name, Spec(Composite, children={f"d{number}": Spec(Blocking) for number in range(devices)})
    )


async def test_a_board_that_blocks_for_ever_takes_nothing_from_its_neighbour(
    user: Users, go_on: threading.Event
) -> None:
    inventory = Inventory()
    bad, good = board(inventory, "bad", 6), board(inventory, "good", 1)
    async with (
        Session(bad) as first,
        Session(good) as second,
        user(first) as one,
        user(second) as two,
        trio.open_nursery() as nursery,
    ):

        async def block(path: str) -> None:
            with suppress(RpcError):
                await one.call(path, "block")

        for path in ("d0", "d1", "d2", "d3", "d4"):
            for _ in range(threads.MAX_DEVICE_THREADS + 1):
                nursery.start_soon(block, path)
        counts = [bad.slots[f"d{number}"].threads for number in range(5)]
        await until(lambda: sum(each.count for each in counts) == threads.MAX_BOARD_THREADS)
        with trio.fail_after(20):
            assert await two.call("d0", "answer") == "well"
            # A device of the same board that has no thread gets its first one.
            assert await one.call("d5", "answer") == "well"
            # The daemon has its own.
            assert await trio.to_thread.run_sync(lambda: 1) == 1
        go_on.set()


@pytest.mark.parametrize("is_board_full", [False, True])
async def test_a_call_without_a_thread_names_who_has_them(
    user: Users, go_on: threading.Event, monkeypatch: pytest.MonkeyPatch, is_board_full: bool
) -> None:
    monkeypatch.setattr(threads, "MAX_DEVICE_THREADS", 2)
    monkeypatch.setattr(threads, "MAX_BOARD_THREADS", 3 if is_board_full else 10)
    monkeypatch.setattr(threads, "THREAD_WAIT_SECONDS", 0.05)
    bad = board(Inventory(), "bad", 2)
    async with Session(bad) as session, user(session) as one, trio.open_nursery() as nursery:
        nursery.start_soon(one.call, "d0", "block")
        nursery.start_soon(one.call, "d1", "block")
        if is_board_full:
            nursery.start_soon(one.call, "d0", "block")
        else:
            nursery.start_soon(one.call, "d1", "block")
        await until(lambda: bad.slots["d0"].threads.count + bad.slots["d1"].threads.count == 3)
        with pytest.raises(RpcError) as caught:
            await one.call("d1", "answer")
        go_on.set()
    assert caught.value.code is StatusCode.FAILED_PRECONDITION
    said = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "NOON", caught.value.details)
    if is_board_full:
        holders = ["d0: block() since NOON (2 threads)", "d1: block() since NOON"]
        held = [
            "all 3 worker threads of this board are in use: " + ", ".join(each)
            for each in permutations(holders)
        ]
    else:
        held = ["all 2 worker threads of this device are in use: d1: block() since NOON (2 threads)"]
    cure = "try again when they have ended, or restart the exporter"
    assert said in [f"d1: answer() has not begun within 0.05 s, as {each}; {cure}" for each in held]


async def test_a_call_that_waits_for_a_thread_ends_with_its_deadline(
    user: Users, go_on: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "MAX_DEVICE_THREADS", 1)
    bad = board(Inventory(), "bad", 1)
    async with Session(bad) as session, user(session) as one, trio.open_nursery() as nursery:
        nursery.start_soon(one.call, "d0", "block")
        await until(lambda: bad.slots["d0"].threads.count == 1)
        with pytest.raises(RpcError) as caught:
            await one.call("d0", "answer", timeout=0.05)
        assert caught.value.code is StatusCode.DEADLINE_EXCEEDED
        assert not bad.slots["d0"].lifecycle.is_stuck
        go_on.set()


async def test_threads_that_do_not_come_back_count_for_the_next_board_of_that_name(
    go_on: threading.Event,
) -> None:
    inventory = Inventory()
    held = await board(inventory, "bad", 1).slots["d0"].threads.acquire()
    inventory.remove("bad")
    again = board(inventory, "bad", 1).slots["d0"].threads
    assert held in again.board.held
    held.device.release(held)
    inventory.remove("bad")
    assert board(inventory, "bad", 1).slots["d0"].threads.board is not again.board


STEPS = st.lists(st.tuples(st.sampled_from(["take", "give", "leave"]), st.integers(0, 3)), max_size=60)


@given(STEPS)
def test_no_limit_is_exceeded_and_nobody_waits_for_a_free_thread(steps: list[tuple[str, int]]) -> None:
    async def main() -> None:
        board = BoardThreads()
        devices = [DeviceThreads(f"d{number}", board) for number in range(4)]
        held: list[HeldThread] = []
        waiting: list[tuple[DeviceThreads, trio.CancelScope]] = []

        async def take(device: DeviceThreads) -> None:
            with trio.CancelScope() as scope:
                entry = (device, scope)
                waiting.append(entry)
                try:
                    held.append(await device.acquire())
                finally:
                    waiting.remove(entry)

        async with trio.open_nursery() as nursery:
            for step, which in steps:
                if step == "take":
                    nursery.start_soon(take, devices[which])
                elif step == "give" and held:
                    one = held.pop(which % len(held))
                    one.device.release(one)
                elif step == "leave" and waiting:
                    waiting[which % len(waiting)][1].cancel()
                await trio.testing.wait_all_tasks_blocked()
                assert len(held) == len(board.held) == sum(device.count for device in devices)
                assert all(device.count <= 2 for device in devices)
                assert len(held) <= 3 + len(devices) - 1
                assert not any(board.may_have(device) for device, _ in waiting)
            nursery.cancel_scope.cancel()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "MAX_DEVICE_THREADS", 2)
        patch.setattr(threads, "MAX_BOARD_THREADS", 3)
        trio.run(main)


async def test_the_event_loop_ends_though_a_thread_never_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "GRACE_SECONDS", 0.02)
    go_on = threading.Event()
    life = Lifecycle()

    async def main() -> None:
        threads = DeviceThreads()
        with trio.move_on_after(0.05):
            await isolation.run(life, "plain()", lambda: isolation.in_thread(threads, go_on.wait))
        assert life.is_stuck

    try:
        finished = threading.Event()

        def loop() -> None:
            trio.run(main)
            finished.set()

        threading.Thread(target=loop, daemon=True).start()
        assert await trio.to_thread.run_sync(finished.wait, 20)
        assert life.is_stuck, "nobody has seen it come back"
    finally:
        go_on.set()
