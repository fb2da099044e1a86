"""What is others' does not count: another namespace's records, another kind's damage, those who have left the line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from jumpstarter_controller.lab import (
    Client,
    ConditionType,
    Draft,
    Exporter,
    ExporterStatus,
    Key,
    Lease,
    Policy,
    Rule,
    UnavailableReason,
)
from jumpstarter_controller.scheduling import ExporterPresence, Scheduler
from jumpstarter_controller.scheduling.candidates import Candidates, longest
from jumpstarter_controller.scheduling.lease_queue import LeaseQueue

START = 1000.0
BOARDS = ("one", "two", "three")
PEOPLE = ("ann", "bob")
Op = tuple[str, dict[str, Any]]


class Labs:
    """Two labs in one, whose names are the same: `ours`, and `theirs`."""

    def __init__(self, *places: str) -> None:
        """In each of the `places` there are people."""
        self.now = START
        self.lab = Draft()
        self.presence = ExporterPresence()
        self.scheduler = Scheduler(self.presence)
        self.asked = {"ours": 0, "theirs": 0}
        for where in places:
            for name in PEOPLE:
                self.do(where, ("client", {"name": name, "labels": {"team": "a"}}))

    def do(self, where: str, op: Op) -> None:
        what, said = op
        match what:
            case "exporter":
                found = Exporter(namespace=where, uid=said["name"], devices=1, **said)
                self.presence.connected(found.key, self.now)
                self.lab.put(found)
            case "client":
                self.lab.put(Client(namespace=where, uid=said["name"], **said))
            case "policy":
                self.lab.put(Policy(namespace=where, **said))
            case "lease":
                number = self.asked[where] = self.asked[where] + 1
                self.lab.put(
                    Lease(namespace=where, name=f"l{number}", created=self.now, sequence=number, **said)
                )
            case "release":
                lease = self.lab.get(Lease, Key(where, f"l{said['number']}"))
                if lease is not None:
                    self.lab.put(replace(lease, release=True))

    def decide(self, seconds: float) -> None:
        self.now += seconds
        self.scheduler.reconcile(self.lab, self.now)
        self.lab.commit()

    def ours(self) -> list[object]:
        """All that is to be seen in our lab."""
        leases = sorted(
            (one for one in self.lab.all(Lease) if one.namespace == "ours"), key=lambda one: one.key
        )
        exporters = sorted(
            (one for one in self.lab.all(Exporter) if one.namespace == "ours"), key=lambda one: one.key
        )
        clients = sorted(
            (one for one in self.lab.all(Client) if one.namespace == "ours"), key=lambda one: one.key
        )
        places = self.scheduler.queue(self.lab, self.now)
        return [
            leases,
            exporters,
            {key: place for key, place in places.items() if key.namespace == "ours"},
            [longest(self.lab, client, exporter) for client in clients for exporter in exporters],
        ]


labels = st.fixed_dictionaries({"board": st.sampled_from(["rpi4", "imx8"])})
ops: st.SearchStrategy[Op] = st.one_of(
    st.tuples(
        st.just("exporter"),
        st.fixed_dictionaries(
            {
                "name": st.sampled_from(BOARDS),
                "labels": labels,
                "enabled": st.sampled_from([True, True, False]),
                "status": st.sampled_from([ExporterStatus.AVAILABLE, ExporterStatus.AFTER_LEASE_HOOK]),
            }
        ),
    ),
    st.tuples(
        st.just("client"),
        st.fixed_dictionaries(
            {"name": st.sampled_from(PEOPLE), "labels": st.just({"team": "a"}), "enabled": st.booleans()}
        ),
    ),
    st.tuples(
        st.just("policy"),
        st.fixed_dictionaries(
            {
                "name": st.sampled_from(["p", "q"]),
                "exporters": st.sampled_from(["board=rpi4", "board"]),
                "rules": st.sampled_from(
                    [
                        (),
                        (Rule(clients=("team=a",), priority=1, maximum_duration=50.0),),
                        (Rule(clients=("team=a",), priority=2),),
                    ]
                ),
            }
        ),
    ),
    st.tuples(
        st.just("lease"),
        st.fixed_dictionaries(
            {
                "client": st.sampled_from(PEOPLE),
                "duration": st.sampled_from([10.0, 100.0]),
                "selector": st.sampled_from(["board=rpi4", "board", "board=none"]),
                "exporter_name": st.sampled_from(["", "", "one"]),
                "begin_time": st.sampled_from([None, None, START + 60]),
            }
        ),
    ),
    st.tuples(st.just("release"), st.fixed_dictionaries({"number": st.integers(1, 3)})),
)
"""What happens in a lab."""


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.tuples(st.sampled_from(["ours", "theirs"]), ops, st.sampled_from([0.0, 0.0, 20.0])), max_size=20
    )
)
def test_what_happens_in_another_namespace_changes_nothing(story: list[tuple[str, Op, float]]) -> None:
    both, alone = Labs("ours", "theirs"), Labs("ours")
    for labs, where in ((both, "ours"), (both, "theirs"), (alone, "ours")):
        for name in BOARDS[:2]:
            labs.do(
                where,
                ("exporter", {"name": name, "labels": {"board": "rpi4"}, "status": ExporterStatus.AVAILABLE}),
            )
    for where, op, pause in story:
        both.do(where, op)
        if where == "ours":
            alone.do(where, op)
        for one in (both, alone):
            one.decide(pause)
        assert both.ours() == alone.ours()


LEVELS = st.lists(
    st.tuples(st.integers(0, 2), st.frozensets(st.sampled_from(BOARDS), min_size=1)), min_size=1, max_size=3
)


def candidates(levels: Iterable[tuple[int, frozenset[str]]]) -> Candidates:
    """Each exporter with one priority, as policies give them."""
    found: dict[str, int] = {}
    for priority, names in levels:
        for name in names:
            found.setdefault(name, priority)
    return Candidates(
        tuple(
            (priority, frozenset(Key("ours", name) for name, its in found.items() if its == priority))
            for priority in sorted(set(found.values()), reverse=True)
        )
    )


@settings(deadline=None)
@given(st.lists(st.tuples(LEVELS, st.booleans()), max_size=6))
def test_a_place_in_the_line_counts_those_who_are_served_before_where_it_stands_best(
    wishes: Sequence[tuple[list[tuple[int, frozenset[str]]], bool]],
) -> None:
    waiting = [
        (Lease(namespace="ours", name=f"l{number}", client="ann", sequence=number), candidates(levels))
        for number, (levels, _) in enumerate(wishes)
    ]
    lease_queue = LeaseQueue(waiting)
    for (lease, _), (_, leaves) in zip(waiting, wishes, strict=True):
        if leaves:
            lease_queue.leave(lease.key)
    left = [one for one, (_, leaves) in zip(waiting, wishes, strict=True) if not leaves]
    expected: dict[Key, int] = {}
    for lease, found in left:
        places = []
        for priority, exporters in found.levels:
            before = 0
            for other, its in left:
                best = max((level for level, names in its.levels if names & exporters), default=None)
                before += best is not None and (-best, other.sequence) < (-priority, lease.sequence)
            places.append(before + 1)
        expected[lease.key] = min(places)
    assert lease_queue.positions() == expected


@pytest.mark.parametrize("said", ["l1", "l2", "l3", "", "gone"])
def test_of_several_leases_that_claim_an_exporter_the_one_has_it_that_the_exporter_names(said: str) -> None:
    labs = Labs("ours", "theirs")
    claim = {"client": "ann", "exporter_name": "one", "exporter": "one", "begun": START, "duration": 100.0}
    rightful = {"ours": said if said.startswith("l") else "l1", "theirs": "l2"}
    for where, lease in {"ours": said, "theirs": "l2"}.items():
        board = {"name": "one", "labels": {}, "status": ExporterStatus.AVAILABLE, "lease": lease}
        labs.do(where, ("exporter", board))
        for _ in range(3):
            labs.do(where, ("lease", claim))
    labs.decide(0)
    assert {one.key: one.ended for one in labs.lab.all(Lease)} == {
        Key(where, name): None if name == rightful[where] else START
        for where in rightful
        for name in ("l1", "l2", "l3")
    }
    assert {one.namespace: one.lease for one in labs.lab.all(Exporter)} == rightful


@pytest.mark.parametrize(("kind", "is_had"), [(Exporter, False), (Client, True), (Lease, True)])
def test_an_exporter_whose_record_is_damaged_is_not_had_and_nothing_else_of_its_name_matters(
    kind: type[Exporter | Client | Lease], is_had: bool
) -> None:
    labs = Labs("ours")
    labs.do("ours", ("exporter", {"name": "one", "labels": {}, "status": ExporterStatus.AVAILABLE}))
    labs.lab.damaged[kind, Key("ours", "one")] = "somebody was here"
    labs.do("ours", ("lease", {"client": "ann", "exporter_name": "one", "duration": 100.0}))
    labs.decide(0)
    lease = labs.lab.get(Lease, Key("ours", "l1"))
    assert lease is not None
    assert bool(lease.exporter) == is_had


def test_who_waits_is_told_of_an_exporter_that_nobody_has_and_that_says_why_it_is_not_ready() -> None:
    labs = Labs("ours")
    away = ExporterStatus.AFTER_LEASE_HOOK
    common: dict[str, Any] = {"labels": {"board": "rpi4"}, "status": ExporterStatus.AVAILABLE}
    labs.do("ours", ("exporter", {**common, "name": "held"}))
    labs.do("ours", ("lease", {"client": "ann", "exporter_name": "held", "duration": 100.0}))
    labs.decide(0)
    held = labs.lab.get(Exporter, Key("ours", "held"))
    assert held is not None
    reasons = (UnavailableReason("a-code", "a sentence"),)
    labs.lab.put(replace(held, status_message="that of who has it", reasons=reasons))
    labs.do("ours", ("exporter", {**common, "name": "other", "status": away, "status_message": "no reason"}))
    labs.do(
        "ours",
        (
            "exporter",
            {**common, "name": "unplugged", "status": away, "status_message": "no cable", "reasons": reasons},
        ),
    )
    labs.do("ours", ("lease", {"client": "bob", "selector": "board=rpi4", "duration": 100.0}))
    labs.decide(0)
    lease = labs.lab.get(Lease, Key("ours", "l2"))
    assert lease is not None
    pending = lease.condition(ConditionType.PENDING)
    assert pending is not None
    assert pending.message == "no exporter that it may have is ready yet; unplugged: no cable"
