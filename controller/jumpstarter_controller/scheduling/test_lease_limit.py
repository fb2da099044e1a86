"""Of leases that several have made at once no client keeps more than the limit, the oldest stay, and all agree."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.rpc import RpcError, StatusCode
from msgspec.structs import replace

from jumpstarter_controller.lab import Client, Draft, Exporter, ExporterStatus, Key, Lease, Record
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.scheduling import ExporterPresence, Scheduler
from jumpstarter_controller.scheduling.lease_limit import IN_FLIGHT_SECONDS
from jumpstarter_controller.services.changes import create_lease
from jumpstarter_controller.store import MemoryStore
from jumpstarter_controller.store.whole import fill, lab_of

NOW = 1_800_000_000.0
MOST = 3
CLIENTS = [
    Client(namespace=namespace, name=name, uid=f"{namespace}-{name}")
    for namespace, name in (("lab", "ann"), ("lab", "bob"), ("other", "ann"))
]
BOARDS = [
    Exporter(
        namespace="lab",
        name=name,
        uid=name,
        devices=1,
        labels={"board": "rpi4"},
        status=ExporterStatus.AVAILABLE,
    )
    for name in "abcd"
]


@st.composite
def leases(draw: st.DrawFn) -> list[Lease]:
    found = []
    boards = list("abcd")
    for number in range(draw(st.integers(0, 14))):
        client = draw(st.sampled_from(CLIENTS))
        lease = Lease(
            namespace=client.namespace,
            name=f"l{number:02}",
            client=client.name,
            selector="board=rpi4",
            duration=3600.0,
            sequence=draw(st.integers(0, 5)),
            created=NOW - draw(st.sampled_from([0.0, 10.0, 1000.0])),
            begin_time=draw(st.sampled_from([None, None, None, NOW + 600.0])),
            release=draw(st.sampled_from([False, False, False, True])),
        )
        if boards and client.namespace == "lab" and draw(st.booleans()):
            age = draw(st.sampled_from([0.0, IN_FLIGHT_SECONDS - 1, IN_FLIGHT_SECONDS, 1000.0]))
            lease = replace(lease, exporter=boards.pop(), begun=NOW - age, begin_time=None)
        found.append(lease)
    return found


def lab_with(found: Iterable[Lease]) -> tuple[Draft, ExporterPresence]:
    lab, presence = Draft(), ExporterPresence()
    found = list(found)
    for board in BOARDS:
        held = next(
            (one.name for one in found if (one.namespace, one.exporter) == (board.namespace, board.name)), ""
        )
        lab.put(replace(board, lease=held))
        presence.connected(board.key, NOW)
    for record in (*CLIENTS, *found):
        lab.put(record)
    return lab, presence


def age(lease: Lease) -> tuple[int, float, Key]:
    return lease.sequence, lease.created, lease.key


def too_many(lease: Lease) -> bool:
    return bool(lease.conditions) and "older leases, and may have no more" in lease.conditions[-1].message


@given(leases())
@settings(deadline=None)
def test_the_youngest_of_too_many_end_and_nobody_elses(found: list[Lease]) -> None:
    lab, presence = lab_with(found)
    scheduler = Scheduler(presence, max_leases=MOST)
    scheduler.reconcile(lab, NOW)
    after = {one.key: one for one in lab.all(Lease)}
    by_client: defaultdict[Key, list[Lease]] = defaultdict(list)
    for one in found:
        by_client[Key(one.namespace, one.client)].append(one)
    for owned in by_client.values():
        going_on = sorted((one for one in owned if not one.release), key=age)
        for number, one in enumerate(going_on):
            is_settled = one.begun is not None and NOW - one.begun >= IN_FLIGHT_SECONDS
            assert too_many(after[one.key]) == (number >= MOST and not is_settled)
            assert not too_many(after[one.key]) or after[one.key].ended == NOW
        open_ones = [one for one in owned if after[one.key].ended is None]
        settled = [one for one in open_ones if one.begun is not None and NOW - one.begun >= IN_FLIGHT_SECONDS]
        assert len(open_ones) <= max(MOST, len(settled) + MOST)
    assert not lab.at_odds(), "a board is kept by a lease that has ended"
    lab.commit()
    scheduler.reconcile(lab, NOW)
    assert not any(isinstance(one, Lease) and one.ended for one in lab.changes().values()), (
        "it is decided once"
    )


def full() -> list[Lease]:
    """As many leases of ann's as she may have, and for long."""
    mine = Lease(namespace="lab", name="l0", client="ann", selector="board=rpi4", duration=3600.0)
    return [
        replace(mine, name=f"l{number}", sequence=number, exporter=board, begun=NOW - 1000.0)
        for number, board in enumerate("abc", start=1)
    ]


def test_a_lease_that_is_too_much_and_begins_later_keeps_no_board_from_others() -> None:
    mine = replace(full()[0], exporter="", begun=None)
    later = replace(mine, name="l4", sequence=4, begin_time=NOW + 600.0)
    others = replace(mine, name="l5", sequence=5, client="bob")
    lab, presence = lab_with([*full(), later, others])
    Scheduler(presence, max_leases=MOST).reconcile(lab, NOW)
    board = lab.get(Exporter, BOARDS[3].key)
    assert board is not None
    assert board.lease == "l5"


def test_a_lease_that_is_too_much_lets_go_of_the_board_that_it_was_offered() -> None:
    offered = replace(full()[0], name="l4", sequence=4, exporter="d", begun=None, offered=NOW - 1.0)
    lab, presence = lab_with([*full(), offered])
    lab.put(replace(BOARDS[3], lease="l4", answers=True))
    Scheduler(presence, max_leases=MOST).reconcile(lab, NOW)
    after, board = lab.get(Lease, offered.key), lab.get(Exporter, BOARDS[3].key)
    assert after is not None
    assert board is not None
    assert (after.ended, after.exporter, after.offered, board.lease) == (NOW, "", None, "")


def test_a_lease_that_is_too_much_and_damaged_keeps_its_board() -> None:
    """It cannot be written, so it does not end, and nobody else is to get what it has."""
    young = replace(full()[0], name="l4", sequence=4, exporter="d", begun=NOW - 1.0)
    others = replace(young, name="l5", sequence=5, client="bob", exporter="", begun=None)
    lab, presence = lab_with([*full(), young, others])
    lab.damaged[Lease, young.key] = "somebody has damaged it"
    Scheduler(presence, max_leases=MOST).reconcile(lab, NOW)
    assert lab.get(Lease, young.key) == young
    assert not getattr(lab.get(Lease, others.key), "exporter", None)


@given(leases())
@settings(deadline=None, max_examples=30)
def test_without_a_limit_all_go_on(found: list[Lease]) -> None:
    lab, presence = lab_with(found)
    Scheduler(presence).reconcile(lab, NOW)
    assert not any(too_many(one) for one in lab.all(Lease))


@pytest.mark.parametrize("seed", range(4))
async def test_two_controllers_that_are_asked_at_once_end_what_is_too_much_and_agree(
    seed: int, nursery: trio.Nursery
) -> None:
    store = MemoryStore()
    records: list[Record] = [*CLIENTS, *BOARDS[:2]]
    fill(store, *records)
    engines = [Reconciler(store, max_leases=MOST) for _ in range(2)]
    refused = 0

    async def ask(reconciler: Reconciler, number: int, chance: random.Random) -> None:
        nonlocal refused
        asked = client_pb2.Lease(selector="board=rpi4")
        asked.duration.seconds = 3600
        for turn in range(MOST + 1):
            name = f"l-{number}-{turn}"
            try:
                await reconciler.change(
                    lambda lab, now, name=name: create_lease(
                        lab, now, CLIENTS[0], name, asked, most_open=MOST
                    )  # type: ignore[misc]
                )
            except RpcError as error:
                assert error.code is StatusCode.RESOURCE_EXHAUSTED  # noqa: PT017
                refused += 1
            await trio.sleep(chance.random() * 0.002)

    for reconciler in engines:
        await nursery.start(reconciler.run)
        for board in BOARDS[:2]:
            reconciler.presence.connected(board.key, reconciler.clock())
    async with trio.open_nursery() as asking:
        for number, reconciler in enumerate(engines):
            asking.start_soon(ask, reconciler, number, random.Random(seed + number))
    with trio.fail_after(30):
        while True:
            kept = lab_of(store)
            views = [{one.key: one for one in reconciler.committed.all(Lease)} for reconciler in engines]
            same = views[0] == views[1] == {one.key: one for one in kept.all(Lease)}
            if same and len(kept.open_leases()) <= MOST and not kept.at_odds():
                break
            for reconciler in engines:
                await reconciler.change(lambda *_: None)
            await trio.sleep(0.01)
    going_on = sorted(kept.open_leases(), key=age)
    assert len(going_on) == MOST
    ended = [one for one in kept.all(Lease) if one.ended is not None]
    assert all(too_many(one) for one in ended)
    assert all(age(one) > age(going_on[-1]) for one in ended), "an older one has ended for a younger one"
    assert len(ended) + len(going_on) + refused == 2 * (MOST + 1)
    assert Counter(one.exporter for one in going_on if one.exporter).most_common(1)[0][1] == 1
