"""A controller that dies behind any record of any operation comes to the same end as one that does not."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.remote import Kind
from jumpstarter_proto.rpc import RpcError
from jumpstarter_proto.v1 import jumpstarter_pb2
from msgspec.structs import replace

from jumpstarter_controller.lab import (
    Client,
    Draft,
    Exporter,
    ExporterStatus,
    Host,
    Key,
    Lease,
    PairingCode,
    Policy,
    Rule,
    UnavailableReason,
)
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.reconciler.batch import batch, halves_of
from jumpstarter_controller.scheduling import ExporterPresence, Scheduler
from jumpstarter_controller.scheduling.candidates import priority_of
from jumpstarter_controller.services import changes, objects
from jumpstarter_controller.services.policy_changes import apply_policies
from jumpstarter_controller.store import Change, Half, MemoryStore
from jumpstarter_controller.store.contract import stages
from jumpstarter_controller.store.test_contract import torn
from jumpstarter_controller.store.whole import fill, lab_of

NOW = 1000.0
ANN = Client(namespace="lab", name="ann", uid="1", labels={"who": "ann"})
BOB = Client(namespace="lab", name="bob", uid="2", labels={"who": "bob"})
BOARDS = [
    Exporter(
        namespace="lab",
        name=name,
        uid=name,
        devices=1,
        labels={"board": "rpi4"},
        status=ExporterStatus.AVAILABLE,
        answers=name == "b",
        host="h" if name == "c" else "",
    )
    for name in "abc"
]
Operation = Callable[[Draft], None]


@dataclass
class Controller:
    """One that has just started, and may die."""

    store: MemoryStore
    lab: Draft = field(init=False)

    def __post_init__(self) -> None:
        self.lab = lab_of(self.store)
        presence = ExporterPresence()
        for board in BOARDS:
            presence.connected(board.key, NOW)
        self._scheduler = Scheduler(presence)

    def decide(self, *operations: Operation) -> list[Change]:
        """What it would write."""
        for operation in operations:
            mark = self.lab.mark()
            try:
                operation(self.lab)
            except RpcError:
                self.lab.back_to(mark)
        self._scheduler.reconcile(self.lab, NOW)
        stored = self.store.snapshot().records
        return [
            Change(ref, half, record, stored[ref].revision if ref in stored else None, stage=stage)
            for ref, half, record, stage in batch(self.lab)
        ]

    def settle(self) -> None:
        """Decide until there is nothing left to be decided."""
        for _ in range(10):
            if not (found := self.decide()):
                return
            self.store.commit(found)
            self.lab.commit()
        raise AssertionError(f"it never comes to an end: {found}")


def create(name: str, board: str) -> Operation:
    asked = client_pb2.Lease(selector="board=rpi4", exporter_name=board)
    asked.duration.seconds = 60

    def apply(draft: Draft) -> None:
        changes.create_lease(draft, NOW, ANN, name, asked)

    return apply


def on_lease(name: str, change: Callable[[Draft, Lease], None]) -> Operation:
    def apply(draft: Draft) -> None:
        if (lease := draft.get(Lease, Key("lab", name))) is not None:
            change(draft, lease)

    return apply


def release(name: str) -> Operation:
    return on_lease(name, changes.release)


def extend(name: str) -> Operation:
    asked = client_pb2.Lease()
    asked.duration.seconds = 90
    return on_lease(name, lambda lab, lease: void(changes.update_lease(lab, NOW, ANN, lease.key, asked)))


def answer(name: str, takes: bool) -> Operation:
    def apply(draft: Draft, lease: Lease) -> None:
        board = Key("lab", lease.exporter)
        if takes:
            changes.accept_lease(draft, NOW, board, lease.name)
        else:
            changes.decline_lease(
                draft, board, lease.name, [UnavailableReason("drained", "it is drained")], is_news=True
            )

    return on_lease(name, apply)


def report(board: str, status: ExporterStatus) -> Operation:
    return lambda lab: changes.report(lab, Key("lab", board), status, "")


def delete(kind: Kind, name: str) -> Operation:
    return lambda lab: void(objects.delete(lab, kind, Key("lab", name)))


def register(board: str) -> Operation:
    reports = [
        jumpstarter_pb2.DriverInstanceReport(uuid="1"),
        jumpstarter_pb2.DriverInstanceReport(
            uuid="2", parent_uuid="1", labels={"jumpstarter.dev/name": "power"}
        ),
    ]
    return lambda lab: void(changes.register(lab, Key("lab", board), {}, reports))


def pair(name: str) -> Operation:
    key = Key("lab", name)
    return lambda lab: void(
        objects.offer(lab, NOW, Kind.EXPORTER, key, {}, seconds=60, again=lab.get(Exporter, key) is not None)
    )


def transfer(name: str, to: str) -> Operation:
    def apply(draft: Draft, lease: Lease) -> None:
        owner = draft.get(Client, Key("lab", lease.client))
        asked = client_pb2.Lease(client=f"namespaces/lab/clients/{to}")
        if owner is not None:
            changes.update_lease(draft, NOW, owner, lease.key, asked)

    return on_lease(name, apply)


def policies(of_one: tuple[str, ...], of_two: tuple[str, ...]) -> Operation:
    """Two policies for all boards, that allow these clients."""
    documents = [
        Policy(
            namespace="lab", name=name, rules=tuple(Rule(clients=(f"who={client}",)) for client in clients)
        )
        for name, clients in (("one", of_one), ("two", of_two))
    ]
    return lambda lab: void(apply_policies(lab, NOW, documents))


def void(_: object) -> None:
    pass


NAMES = st.sampled_from([f"l{number}" for number in range(5)])
LETTERS = st.sampled_from("abc")
CLIENTS = st.sampled_from(["ann", "bob"])
OPERATIONS = st.one_of(
    st.builds(create, NAMES, st.sampled_from(["", "", "a", "b"])),
    st.builds(release, NAMES),
    st.builds(extend, NAMES),
    st.builds(answer, NAMES, st.booleans()),
    st.builds(report, LETTERS, st.sampled_from([ExporterStatus.AVAILABLE, ExporterStatus.LEASE_READY])),
    st.builds(delete, st.just(Kind.EXPORTER), LETTERS),
    st.builds(register, LETTERS),
    st.builds(transfer, NAMES, CLIENTS),
)
WITH_OBJECTS = st.one_of(
    OPERATIONS,
    st.builds(delete, st.just(Kind.CLIENT), CLIENTS),
    st.just(delete(Kind.HOST, "h")),
)


def fresh() -> MemoryStore:
    store = MemoryStore()
    fill(store, ANN, BOB, Host(namespace="lab", name="h", uid="h"), *BOARDS)
    return store


def copied(store: MemoryStore) -> MemoryStore:
    other = MemoryStore()
    other._records = dict(store._records)
    here = next(store._numbers)
    store._numbers, other._numbers = itertools.count(here), itertools.count(here)
    return other


def outcome(store: MemoryStore) -> dict[RecordRef, object]:
    """What has come of it, but for what counts the writes."""
    return {
        ref: replace(stored.record, sequence=0) if isinstance(stored.record, Lease) else stored.record
        for ref, stored in store.snapshot().records.items()
    }


def check(store: MemoryStore) -> None:
    lab = lab_of(store)
    active = [lease.exporter for lease in lab.all(Lease) if lease.active]
    assert len(active) == len(set(active)), "a board is leased twice"


@given(st.lists(WITH_OBJECTS, min_size=1, max_size=8))
@settings(max_examples=120)
def test_whoever_goes_on_behind_any_record_comes_to_the_same_end(operations: list[Operation]) -> None:
    store = fresh()
    for operation in operations:
        before = copied(store)
        whole = Controller(store)
        written = whole.decide(operation)
        known = {ref for ref in before.snapshot().records if ref[0] is Lease}
        store.commit(written)
        whole.lab.commit()
        whole.settle()
        expected = uidless(outcome(store))
        for count in range(len(written)):
            dying = copied(before)
            dying.commit(written[:count])
            check(dying)
            Controller(dying).settle()
            check(dying)
            assert known <= dying.snapshot().records.keys(), "a lease was lost"
            if not is_decided(operation, before, written[:count]):
                again = Controller(dying)  # nobody has had an answer, and asks again
                dying.commit(again.decide(operation))
                again.lab.commit()
                again.settle()
            assert uidless(outcome(dying)) == expected, count
        check(store)


TURNS = st.lists(
    st.one_of(
        st.builds(
            lambda name, board: [release(name), report(board, ExporterStatus.AVAILABLE)], NAMES, LETTERS
        ),
        st.lists(OPERATIONS, min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=3,
)


@given(st.lists(TURNS, min_size=1, max_size=3), st.integers(0, 99))
@settings(max_examples=60)
def test_whatever_of_a_stage_is_made_the_lab_goes_on(turns: list[list[list[Operation]]], seed: int) -> None:
    """Requests of one turn are one batch. Of those of a stage at which it stops any may have been made."""
    store, chance = fresh(), random.Random(seed)
    crowd = [
        [create(f"l{number}", "") for number in range(5)],
        [answer(f"l{number}", True) for number in range(5)],
    ]
    for operations in [*crowd, *([one for several in turn for one in several] for turn in turns)]:
        before = copied(store)
        known = {ref for ref in before.snapshot().records if ref[0] is Lease}
        whole = Controller(store)
        written = whole.decide(*operations)
        for count in [*range(len(written))] * 3:
            dying = copied(before)
            torn(dying, written, count, chance)
            check(dying)
            Controller(dying).settle()
            check(dying)
            assert known <= dying.snapshot().records.keys(), "a lease was lost"
            assert not idle_beside_a_queue(dying)
        store.commit(written)
        whole.lab.commit()
        whole.settle()
        check(store)
        assert not idle_beside_a_queue(store)


def idle_beside_a_queue(store: MemoryStore) -> list[Lease]:
    """Leases that wait though a board that they may have is free."""
    lab = lab_of(store)
    boards = lab.all(Exporter)
    free = {one.name for one in boards if one.status is ExporterStatus.AVAILABLE and not one.lease}
    waiting = [one for one in lab.all(Lease) if one.ended is None and not one.exporter]
    return [one for one in waiting if (one.exporter_name in free if one.exporter_name else free)]


def test_leases_and_exporters_of_one_turn_are_written_in_stages() -> None:
    store = fresh()
    written = Controller(store).decide(*(create(f"l{number}", "") for number in range(5)))
    found = [[(one.ref[0], one.half) for one in stage] for stage in stages(written)]
    assert found[:3] == [[(Lease, Half.SPEC)] * 5, [(Exporter, Half.STATUS)] * 3, [(Lease, Half.STATUS)] * 5]


def is_decided(operation: Operation, before: MemoryStore, written: list[Change]) -> bool:
    """Whether all that the request itself wants is written."""
    lab = lab_of(before)
    try:
        operation(lab)
    except RpcError:
        return True
    own = {(ref, half) for ref, was in lab.before().items() for half in halves_of(was, lab.get(*ref))}
    return own <= {(one.ref, one.half) for one in written}


def uidless(records: dict[RecordRef, object]) -> dict[RecordRef, object]:
    """Leases have one that is drawn."""
    return {
        ref: replace(record, uid="") if isinstance(record, Lease) else record
        for ref, record in records.items()
    }


def test_a_beginning_takes_the_board_first_and_an_end_gives_it_back_last() -> None:
    store = fresh()
    written = Controller(store).decide(create("l0", "a"))
    assert [(one.ref[0], one.half) for one in written] == [
        (Lease, Half.SPEC),
        (Exporter, Half.STATUS),
        (Lease, Half.STATUS),
    ]
    store.commit(written)
    Controller(store).settle()
    written = Controller(store).decide(release("l0"))
    assert [(one.ref[0], one.half) for one in written] == [
        (Lease, Half.SPEC),
        (Lease, Half.STATUS),
        (Exporter, Half.STATUS),
    ]


@pytest.mark.parametrize("again", [False, True], ids=["new", "renewed"])
def test_a_code_is_used_first_and_who_used_it_gets_what_it_is_for_after_a_crash(again: bool) -> None:
    store = fresh()
    key = BOARDS[0].key if again else Key("lab", "new")
    codes: list[str] = []

    def pair(draft: Draft) -> None:
        code, _ = objects.offer(draft, NOW, Kind.EXPORTER, key, {}, seconds=60, again=again)
        codes.append(code)

    store.commit(Controller(store).decide(pair))
    enrol = partial(objects.enrol, now=NOW, kind=Kind.EXPORTER, text=codes[0])
    written = Controller(store).decide(lambda lab: void(enrol(lab, nonce="mine")))
    assert written[0].ref[0] is PairingCode
    store.commit(written[:1])
    lab = lab_of(store)
    with pytest.raises(RpcError, match="used"):
        enrol(lab, nonce="another's")
    made = enrol(lab, nonce="mine")
    assert enrol(lab, nonce="mine") == made
    assert lab.get(Exporter, key) == made
    assert all(made.uid != board.uid for board in BOARDS)
    lab.put(replace(made, uid="later"))
    with pytest.raises(RpcError, match="used"):
        enrol(lab, nonce="mine")


@pytest.mark.parametrize(
    ("kind", "name"), [(Kind.EXPORTER, "c"), (Kind.HOST, "h"), (Kind.CLIENT, "ann")], ids=str
)
def test_a_deletion_that_was_cut_off_is_finished_by_asking_again(kind: Kind, name: str) -> None:
    store = fresh()
    for operations in (
        [register("c"), pair("c"), create("l0", "c"), create("l1", "a")],
        [answer("l0", True)],
    ):
        controller = Controller(store)
        store.commit(controller.decide(*operations))
        controller.lab.commit()
        controller.settle()
    before = copied(store)
    whole = Controller(store)
    written = whole.decide(delete(kind, name))
    store.commit(written)
    whole.lab.commit()
    whole.settle()
    gone = sum(one.record is None for one in written)
    assert gone == {Kind.EXPORTER: 3, Kind.HOST: 4, Kind.CLIENT: 1}[kind]
    for count in range(len(written)):
        dying = copied(before)
        dying.commit(written[:count])
        Controller(dying).settle()
        again = Controller(dying)
        dying.commit(again.decide(delete(kind, name)))
        again.lab.commit()
        again.settle()
        assert uidless(outcome(dying)) == uidless(outcome(store)), count


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((("ann", "bob"), ("x",)), (("ann",), ("x", "bob"))),
        ((("bob",), ("ann",)), (("x",), ("ann", "bob"))),
        ((("x",), ("bob",)), (("x", "bob"), ("ann",))),
    ],
)
def test_who_may_use_a_board_before_and_after_may_in_between(
    before: tuple[tuple[str, ...], tuple[str, ...]], after: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    store = fresh()
    store.commit(Controller(store).decide(policies(*before)))
    written = Controller(store).decide(policies(*after))
    assert [one.ref[0] for one in written] == [Policy, Policy]
    for count in range(len(written) + 1):
        dying = copied(store)
        dying.commit(written[:count])
        assert priority_of(lab_of(dying), BOB, BOARDS[0], 60) is not None, count
