"""What a move writes, and what it takes for somebody else's."""

from __future__ import annotations

from jumpstarter_controller.backups.moves import MOVING, plan_of, request_of
from jumpstarter_controller.lab import Client, Draft, Exporter, ExporterStatus, Lease, Policy, Record
from jumpstarter_controller.store import Change, Half, MemoryStore
from jumpstarter_controller.store.contract import key_of
from jumpstarter_controller.store.whole import fill, lab_of

KEY = request_of(b"the lab's key")
ANN = Client(namespace="lab", name="ann", uid="1")
ONE = Exporter(namespace="lab", name="one", uid="2", status=ExporterStatus.AVAILABLE, lease="new")
ALL = Policy(namespace="lab", name="all")
OLD = Lease(namespace="lab", name="old", client="ann", exporter="one", begun=1.0, ended=2.0, sequence=1)
NEW = Lease(namespace="lab", name="new", client="ann", exporter="one", begun=3.0, sequence=2)
RECORDS: tuple[Record, ...] = (NEW, OLD, ONE, ANN, ALL)


def lab(*records: Record) -> Draft:
    found = Draft()
    for record in records:
        found.set(type(record), record.key, record)
    return found


def words(changes: list[Change]) -> list[str]:
    return [f"{one.ref[1].name} {one.half.value}" for one in changes]


def test_what_others_rest_on_is_first_and_older_leases_are_older() -> None:
    plan = plan_of(lab(*RECORDS), MemoryStore().snapshot(), KEY)
    assert words(plan.changes) == [
        "all spec",
        "ann spec",
        "one spec",
        "one status",
        "old spec",
        "old status",
        "new spec",
        "new status",
    ]
    assert not plan.others
    store = MemoryStore()
    store.commit(plan.changes)
    there = lab_of(store)
    assert [one.name for one in sorted(there.all(Lease), key=lambda one: one.sequence)] == ["old", "new"]
    again = plan_of(lab(*RECORDS), store.snapshot(), KEY)
    assert (again.changes, again.others, again.done) == ([], [], 5)


def test_wherever_it_was_cut_short_it_goes_on_from_there() -> None:
    whole = lab(*RECORDS)
    for cut in range(9):
        store = MemoryStore()
        store.commit(plan_of(whole, store.snapshot(), KEY).changes[:cut])
        plan = plan_of(whole, store.snapshot(), KEY)
        assert not plan.others
        store.commit(plan.changes)
        assert plan_of(whole, store.snapshot(), KEY).done == 5


def test_what_is_there_of_others_is_named_and_what_is_not_part_of_the_lab_goes_last() -> None:
    store = MemoryStore()
    eve = Client(namespace="lab", name="eve")
    fill(store, eve, Client(namespace="lab", name="ann", uid="another"), MOVING)
    plan = plan_of(lab(*RECORDS), store.snapshot(), KEY)
    assert set(plan.others) == {key_of(eve), key_of(ANN), key_of(MOVING)}
    assert plan.changes[-1].ref == key_of(eve)
    assert plan.changes[-1].record is None
    assert words(plan.changes).count("ann spec") == 1
    store.commit(plan.changes)
    assert plan_of(lab(*RECORDS), store.snapshot(), KEY).done == 5


def test_a_drain_of_the_move_itself_is_in_nobodys_way() -> None:
    store = MemoryStore()
    store.commit([Change(key_of(MOVING), Half.SPEC, MOVING, None, KEY)])
    assert not plan_of(lab(*RECORDS), store.snapshot(), KEY).others
