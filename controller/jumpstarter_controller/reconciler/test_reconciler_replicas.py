"""Reconcilers of several controllers on one store: each makes what it is asked for, one decides."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing
from msgspec.structs import replace

from jumpstarter_controller.lab import Client, Draft, Drain, Exporter, ExporterStatus, Key, Lease
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.store import MemoryStore
from jumpstarter_controller.store.contract import Stored

ANN, ONE, MINE = Key("lab", "ann"), Key("lab", "one"), Key("lab", "mine")


def people(draft: Draft, _: float) -> None:
    draft.put(Client(namespace="lab", name="ann", uid="1"))
    draft.put(
        Exporter(
            namespace="lab",
            name="one",
            uid="2",
            labels={"board": "rpi4"},
            devices=1,
            status=ExporterStatus.AVAILABLE,
            replica="other",
        )
    )


def wish(draft: Draft, now: float) -> None:
    draft.put(
        Lease(namespace="lab", name="mine", client="ann", selector="board=rpi4", duration=60.0, created=now)
    )


@asynccontextmanager
async def running(*engines: Reconciler) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for reconciler in engines:
            await nursery.start(reconciler.run)
        yield
        nursery.cancel_scope.cancel()


async def until(reconciler: Reconciler, *, has_board: bool) -> Lease:
    """The lease, as soon as that engine knows that it has a board, or has none."""
    while True:
        lease = reconciler.committed.get(Lease, MINE)
        if lease is not None and bool(lease.exporter) is has_board:
            return lease
        await reconciler.wait(Lease, MINE, 60.0)


async def test_only_who_leads_decides_and_all_hear_of_it() -> None:
    store, leads = MemoryStore(), {"one": False, "other": False}
    one = Reconciler(store, replica="one", leads=lambda: leads["one"])
    other = Reconciler(store.another(), replica="other", leads=lambda: leads["other"])
    async with running(one, other):
        await other.change(people)
        await one.change(wish)
        for reconciler in (one, other):
            lease = await until(reconciler, has_board=False)
            assert lease.conditions == ()  # nobody has looked at it
        one.others_live(["other"])
        leads["one"] = True
        one.schedule_turn()
        assert (await until(other, has_board=True)).exporter == "one"
        assert (await until(one, has_board=True)).exporter == "one"


async def test_who_does_not_lead_tells_exporters_who_would_have_them() -> None:
    """Not who begins later, nor of an exporter that somebody has, nor in a lab that is drained."""
    store = MemoryStore()
    one = Reconciler(store, replica="one", leads=lambda: False)
    one.presence.connected(ONE, one.clock())
    two = Key("lab", "two")
    one.presence.connected(two, one.clock())

    def busy(draft: Draft, now: float) -> None:
        board = Exporter(
            namespace="lab",
            name="one",
            uid="2",
            labels={"board": "rpi4"},
            devices=1,
            status=ExporterStatus.AFTER_LEASE_HOOK,
        )
        lease = Lease(namespace="lab", name="mine", client="ann", selector="board=rpi4", duration=60.0)
        draft.put(Client(namespace="lab", name="ann", uid="1"))
        draft.put(board)
        draft.put(replace(board, name="two", lease="held"))
        draft.put(replace(lease, name="held", exporter="two", begun=now))
        draft.put(replace(lease, name="later", begin_time=now + 1000.0))

    def waiting() -> list[str | None]:
        found = (one.waiting_for(key) for key in (ONE, two))
        return [None if lease is None else lease.name for lease in found]

    async with running(one):
        await one.change(busy)
        assert waiting() == [None, None]
        await one.change(wish)
        assert waiting() == ["mine", None]
        await one.change(lambda lab, _: lab.put(Drain(namespace="", name="lab")))
        assert waiting() == [None, None]


async def test_an_exporter_is_there_as_long_as_its_controller_lives() -> None:
    store = MemoryStore()
    now = [1000.0]
    other = Reconciler(store.another(), replica="other", leads=lambda: False)
    async with running(other):
        await other.change(people)
    one = Reconciler(store, replica="one", clock=lambda: now[0])
    one.others_live(["other"])
    async with running(one):
        now[0] += 3600
        one.schedule_turn()
        await one.change(wish)
        assert (await until(one, has_board=True)).exporter == "one"
        one.others_live([])
        now[0] += 61
        one.schedule_turn()
        await one.change(lambda *_: None)
        record = one.committed.get(Exporter, ONE)
        assert record is not None
        assert (record.status, record.replica) == (ExporterStatus.OFFLINE, "")


async def test_what_another_controller_has_just_made_is_found() -> None:
    store = MemoryStore()
    one = Reconciler(store, replica="one")
    other = Reconciler(store.another(), replica="other", leads=lambda: False)
    found: list[Client | None] = []

    async def find() -> None:
        found.append(await other.find(Client, ANN))

    async with running(one), trio.open_nursery() as nursery:
        assert await other.find(Client, ANN) is None
        await one.change(people)
        assert other.committed.get(Client, ANN) is None
        nursery.start_soon(find)
        await trio.testing.wait_all_tasks_blocked()
        async with running(other):
            while not found:
                await other.wait(Client, ANN, 0.01)
    assert found[0] is not None


class Silent(MemoryStore):
    """Whoever reads a record waits until it `answers`."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = threading.Event()

    def read(self, ref: RecordRef) -> Stored | None:
        assert self.answers.wait(60)
        return super().read(ref)


async def test_who_looks_in_a_store_that_does_not_answer_leaves_the_threads_of_others_alone() -> None:
    store = Silent()
    reconciler = Reconciler(store, replica="one")
    most = int(trio.to_thread.current_default_thread_limiter().total_tokens)
    try:
        async with trio.open_nursery() as nursery:
            for number in range(most + 1):
                nursery.start_soon(reconciler.find, Client, Key("lab", f"client-{number}"))
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(30):
                await trio.to_thread.run_sync(lambda: None)
            nursery.cancel_scope.cancel()
    finally:
        store.answers.set()


async def test_what_others_write_of_an_exporter_says_that_it_is_there_only_with_its_status() -> None:
    now = [1000.0]
    reconciler = Reconciler(MemoryStore(), replica="one", clock=lambda: now[0], leads=lambda: False)
    async with running(reconciler):
        await reconciler.change(people)
        now[0] += 3600
        for status, labels, is_seen in (
            (ExporterStatus.AVAILABLE, {"a": "b"}, False),
            (ExporterStatus.UNSPECIFIED, {}, False),
            (ExporterStatus.LEASE_READY, {}, True),
        ):
            before = reconciler.committed.get(Exporter, ONE)
            assert before is not None
            after = replace(before, status=status, labels=labels)
            await reconciler.change(lambda lab, _, after=after: lab.put(after))  # type: ignore[misc]
            assert reconciler.presence.is_fresh(ONE, now[0]) is is_seen


async def test_estimates_count_on_boards_that_other_controllers_have() -> None:
    now = [1000.0]
    reconciler = Reconciler(MemoryStore(), replica="one", clock=lambda: now[0], leads=lambda: False)

    def held(draft: Draft, then: float) -> None:
        people(draft, then)
        wish(draft, then)
        mine = draft.get(Lease, MINE)
        assert mine is not None
        draft.put(replace(mine, name="held", exporter="one", begun=then + 3600, sequence=1))

    async with running(reconciler):
        await reconciler.change(held)
        now[0] += 3600
        reconciler.others_live([])
        assert reconciler.queue_positions()[MINE].seconds is None
        reconciler.others_live(["other"])
        assert reconciler.queue_positions()[MINE].seconds == 60.0


async def test_a_command_that_another_controller_has_heard_of_is_trusted_at_once() -> None:
    reconciler = Reconciler(MemoryStore(), replica="one")

    def begun(draft: Draft, now: float) -> None:
        people(draft, now)
        wish(draft, now)
        mine = draft.get(Lease, MINE)
        assert mine is not None
        draft.put(replace(mine, exporter="one", begun=now, waited=True))

    def is_waited() -> bool:
        lease = reconciler.committed.get(Lease, MINE)
        assert lease is not None
        return lease.waited

    reconciler.others_live(["other"])
    async with running(reconciler):
        await reconciler.change(begun)
        assert is_waited()
        reconciler.heard_elsewhere({MINE: True})
        with trio.fail_after(20):  # it would look again by itself after half a minute
            while is_waited():
                await reconciler.wait(Lease, MINE, 60.0)
