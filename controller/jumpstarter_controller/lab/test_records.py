"""What a lab's records and tables say of themselves."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from jumpstarter_controller.lab import (
    Client,
    ConditionType,
    Draft,
    Exporter,
    ExporterDevices,
    ExporterStatus,
    Host,
    Key,
    Lease,
    LeaseCondition,
    Policy,
    Record,
)

LEASE = Lease(namespace="lab", name="l", client="ann", duration=60.0)
READY = LeaseCondition(ConditionType.READY, True, "Ready", "it is", 10.0, "code")
PENDING = LeaseCondition(ConditionType.PENDING, True, "Offline", "none", 5.0)
ONE = Exporter(namespace="lab", name="one", uid="1")


def test_a_condition_is_since_when_it_became_true_and_stays_in_its_place() -> None:
    both = LEASE.with_condition(PENDING).with_condition(READY)
    assert both.conditions == (PENDING, READY)
    assert both.with_condition(replace(PENDING, since=99.0)) is both, "nothing is new"
    other = both.with_condition(replace(PENDING, reason="NotReady", since=99.0))
    assert other.conditions == (replace(PENDING, reason="NotReady", since=5.0), READY)
    other = both.with_condition(replace(PENDING, message="still", since=99.0))
    assert other.conditions == (replace(PENDING, message="still", since=5.0), READY)
    ended = both.with_condition(replace(READY, holds=False, since=99.0))
    assert ended.conditions == (PENDING, replace(READY, holds=False, since=99.0))
    assert both.condition(ConditionType.INVALID) is None


@pytest.mark.parametrize(
    ("fields", "expiry"),
    [
        ({}, None),
        ({"begun": 100.0}, 160.0),
        ({"begin_time": 50.0}, 110.0),
        ({"begin_time": 50.0, "begun": 100.0}, 110.0),
        ({"end_time": 500.0, "begin_time": 50.0, "begun": 100.0}, 500.0),
    ],
)
def test_when_a_lease_ends_by_itself(fields: dict[str, float], expiry: float | None) -> None:
    assert replace(LEASE, **fields).expiry == expiry


def test_who_has_a_board_and_who_was_only_offered_one() -> None:
    offered = replace(LEASE, exporter="one", offered=1.0)
    begun = replace(LEASE, exporter="one", begun=1.0)
    leases = (LEASE, offered, begun, replace(begun, ended=2.0))
    assert [one.active for one in leases] == [False, True, True, False]
    assert [one.accepted for one in leases] == [False, False, True, True]


def test_why_a_lease_has_ended() -> None:
    over = replace(READY, holds=False, reason="Expired", message="its time is over")
    no = LeaseCondition(ConditionType.UNSATISFIABLE, True, "NoAccess", "no exporter matches")
    bad = LeaseCondition(ConditionType.INVALID, True, "InvalidSelector", "")
    for conditions, outcome in (
        ((PENDING, over), "its time is over"),
        ((replace(over, message=""),), "Expired"),
        ((READY, no), "no exporter matches"),
        ((bad,), "InvalidSelector"),
        ((READY,), ""),
        ((), ""),
    ):
        assert replace(LEASE, conditions=conditions).outcome == outcome


def test_which_tokens_are_a_clients_own() -> None:
    ann = Client(namespace="lab", name="ann", uid="2", previous_uid="1", previous_uid_until=100.0)
    assert [ann.accepts_uid(uid, 99.0) for uid in ("2", "1", "", "0")] == [True, True, False, False]
    assert [ann.accepts_uid(uid, 100.0) for uid in ("2", "1")] == [True, False]
    assert not replace(ann, previous_uid="").accepts_uid("", 99.0)
    assert [ONE.accepts_uid(uid, 0.0) for uid in ("1", "2", "")] == [True, False, False]


@pytest.mark.parametrize(
    ("record", "changed", "counts"),
    [
        (ONE, replace(ONE, uid="2"), True),
        (ONE, replace(ONE, labels={"a": "b"}), True),
        (ONE, replace(ONE, enabled=False), True),
        (ONE, replace(ONE, devices=1), True),
        (replace(ONE, devices=1), replace(ONE, devices=2), False),
        (ONE, replace(ONE, gone_since=1.0), True),
        (ONE, replace(ONE, status=ExporterStatus.OFFLINE, lease="l", replica="r"), False),
        (Client(namespace="lab", name="a"), Client(namespace="lab", name="a", labels={"a": "b"}), True),
        (Policy(namespace="lab", name="p"), Policy(namespace="lab", name="p", exporters="a"), True),
        (Host(namespace="lab", name="h"), Host(namespace="lab", name="h", labels={"a": "b"}), False),
        (
            ExporterDevices(namespace="lab", name="e"),
            ExporterDevices(namespace="lab", name="e", omitted=1),
            False,
        ),
    ],
)
def test_what_decides_who_may_have_which_board_is_noticed(
    record: Record, changed: Record, counts: bool
) -> None:
    draft = Draft()
    draft.put(record)
    before = draft.generation
    draft.put(changed)
    assert (draft.generation != before) is counts
    before = draft.generation
    draft.remove(changed)
    assert (draft.generation != before) is (counts or isinstance(record, Exporter))


def test_what_was_changed_between_two_points_and_how_it_was() -> None:
    draft = Draft()
    draft.put(ONE)
    draft.commit()
    two, three = replace(ONE, devices=2), replace(ONE, devices=3)
    ref = (Exporter, ONE.key)
    start = draft.mark()
    draft.put(two)
    middle = draft.mark()
    draft.put(three)
    draft.put(LEASE)
    assert draft.between(start, middle) == {ref: (ONE, two)}
    assert draft.between(middle, draft.mark()) == {ref: (two, three), (Lease, LEASE.key): (None, LEASE)}
    assert draft.before() == {ref: ONE, (Lease, LEASE.key): None}
    assert draft.before(middle) == {ref: two, (Lease, LEASE.key): None}
    assert draft.changes() == {ref: three, (Lease, LEASE.key): LEASE}
    assert draft.touched(Exporter) == {ONE.key}
    undone = draft.undone
    draft.back_to(middle)
    assert (draft.get(Exporter, ONE.key), draft.get(Lease, LEASE.key), draft.undone) == (
        two,
        None,
        undone + 1,
    )
    draft.back_to(middle)
    assert draft.undone == undone + 1, "there was nothing to undo"
    draft.damaged[ref] = "why"
    draft.put(LEASE)
    draft.restore_damaged()
    assert (draft.get(Exporter, ONE.key), draft.get(Lease, LEASE.key)) == (ONE, LEASE)


def test_of_several_who_say_that_they_have_a_board_the_boards_word_counts() -> None:
    lab, key = Draft(), ONE.key
    first = replace(LEASE, name="first", exporter="one", sequence=7)
    second = replace(LEASE, name="second", exporter="one", sequence=3)
    lab.put(replace(ONE, lease="second"))
    assert lab.at_odds() == [key], "it says that it has one, of which nobody knows"
    lab.put(second)
    assert (lab.holder(key), lab.at_odds()) == (second, [])
    lab.put(first)
    assert (lab.holder(key), lab.at_odds(), lab.last_sequence) == (second, [key], 7)
    lab.put(replace(ONE, lease="first"))
    assert lab.holder(key) == first
    lab.put(replace(second, ended=1.0))
    assert (lab.holder(key), lab.at_odds()) == (first, [])
    assert lab.open_leases() == [first]
    lab.put(replace(first, ended=1.0))
    assert (lab.holder(key), lab.at_odds(), lab.open_leases()) == (None, [key], [])
    lab.put(replace(ONE, lease=""))
    assert lab.at_odds() == []
    assert lab.holder(Key("other", "one")) is None
