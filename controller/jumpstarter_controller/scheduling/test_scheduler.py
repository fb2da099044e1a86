"""The scheduler: each rule of the wire, and what must hold whatever happens."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jumpstarter_proto.remote import ReasonCode
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
    Record,
    Rule,
)
from jumpstarter_controller.scheduling import ExporterPresence, Scheduler, StoreEvidence
from jumpstarter_controller.scheduling.lease_queue import MAX_RESERVATIONS

NS = "lab"


class World:
    """A lab with a clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.lab = Draft()
        self.presence = ExporterPresence()
        self.scheduler = Scheduler(self.presence)
        self.wake: float | None = None
        self._ids: Iterator[int] = iter(range(10_000))

    def put(self, *records: Record) -> None:
        for record in records:
            self.lab.put(record)
        self.step(0)

    def exporter(self, name: str, *, present: bool = True, **more: object) -> Exporter:
        labels = more.pop("labels", {"board": "rpi4"})
        fields = {"devices": 1, "status": ExporterStatus.AVAILABLE, "uid": name, "labels": labels, **more}
        exporter = Exporter(namespace=NS, name=name, **fields)  # type: ignore[arg-type]
        if present:
            self.presence.connected(exporter.key, self.now)
        self.put(exporter)
        return exporter

    def client(self, name: str = "ann", **labels: str) -> None:
        self.put(Client(namespace=NS, name=name, uid=name, labels=labels))

    def ask(self, client: str = "ann", /, **more: object) -> Key:
        fields: dict[str, object] = {"selector": "board=rpi4", "duration": 60.0, **more}
        name = f"l{next(self._ids):04}"
        lease = Lease(namespace=NS, name=name, client=client, created=self.now, **fields)  # type: ignore[arg-type]
        self.put(lease)
        return lease.key

    def lease(self, key: Key) -> Lease:
        lease = self.lab.get(Lease, key)
        assert lease is not None
        return lease

    def change(self, key: Key, **fields: object) -> None:
        self.put(replace(self.lease(key), **fields))

    def set_exporter(self, name: str, **fields: object) -> None:
        exporter = self.lab.get(Exporter, Key(NS, name))
        assert exporter is not None
        self.put(replace(exporter, **fields))

    def step(self, seconds: float) -> None:
        self.now += seconds
        self.wake = self.scheduler.reconcile(self.lab, self.now)
        self.lab.commit()

    def reason(self, key: Key) -> tuple[str, bool, str]:
        last = self.lease(key).conditions[-1]
        return last.type.value, last.holds, last.reason


@pytest.fixture
def world() -> World:
    world = World()
    world.client()
    return world


def test_a_free_exporter_is_leased_at_once(world: World) -> None:
    world.exporter("one")
    key = world.ask()
    lease = world.lease(key)
    assert (lease.exporter, lease.begun, world.reason(key)) == ("one", 1000.0, ("Ready", True, "Ready"))
    assert world.wake == 1060.0


def test_expiry_frees_it_for_the_next(world: World) -> None:
    world.exporter("one")
    first, second = world.ask(), world.ask()
    assert world.reason(second) == ("Pending", True, "NotAvailable")
    assert world.lease(second).conditions[0].message == (
        f"all exporters that it may have are leased, one by you (lease {world.lease(first).name})"
    )
    world.step(60)
    assert world.reason(first) == ("Ready", False, "Expired")
    assert world.lease(first).ended == 1060.0
    assert world.reason(second) == ("Ready", True, "Ready")
    assert world.lease(second).conditions[0].type is ConditionType.PENDING, "a leftover stays, never False"
    assert world.lease(second).conditions[0].holds


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"selector": ""}, ("Invalid", True, "InvalidSelector")),
        ({"selector": "a b"}, ("Invalid", True, "InvalidSelector")),
        ({"selector": "", "exporter_name": "none"}, ("Unsatisfiable", True, "ExporterNotFound")),
        ({"selector": "board=x", "exporter_name": "one"}, ("Unsatisfiable", True, "SelectorMismatch")),
        ({"selector": "", "exporter_name": "off"}, ("Unsatisfiable", True, "ExporterDisabled")),
        ({"selector": "board=off"}, ("Unsatisfiable", True, "AllDisabled")),
        ({"selector": "board=nothing"}, ("Unsatisfiable", True, "NoAccess")),
        ({"selector": "board=away"}, ("Pending", True, "Offline")),
        ({"selector": "board=bare"}, ("Pending", True, "Offline")),
        ({"selector": "board=hook"}, ("Pending", True, "NotReady")),
        ({"selector": "board=off", "allow_disabled": True}, ("Ready", True, "Ready")),
        ({"selector": "", "exporter_name": "one"}, ("Ready", True, "Ready")),
    ],
)
def test_conditions(world: World, asked: dict[str, object], expected: tuple[str, bool, str]) -> None:
    world.exporter("one")
    world.exporter("off", enabled=False, labels={"board": "off"})
    world.exporter("away", present=False, labels={"board": "away"})
    world.exporter("bare", devices=0, labels={"board": "bare"})
    world.exporter("hook", status=ExporterStatus.AFTER_LEASE_HOOK, labels={"board": "hook"})
    key = world.ask(**asked)
    assert world.reason(key) == expected
    final = expected[0] in {"Invalid", "Unsatisfiable"}
    assert (world.lease(key).ended is not None) is final
    assert world.lease(key).conditions[-1].message
    is_there_none = asked in ({"selector": "", "exporter_name": "none"}, {"selector": "board=nothing"})
    assert world.lease(key).conditions[-1].code == (ReasonCode.NO_BOARD.value if is_there_none else "")


def test_who_waits_for_a_board_does_not_wait_for_what_no_board_can_change(world: World) -> None:
    world.put(Client(namespace=NS, name="off", uid="off", enabled=False))
    waits = world.ask(waits_for_board=True)
    assert world.reason(waits) == ("Pending", True, "NoBoardYet")
    refused = world.ask("off", waits_for_board=True)
    assert world.reason(refused) == ("Unsatisfiable", True, "NoAccess")
    assert world.lease(refused).ended == world.now


def test_who_may_have_a_disabled_board_says_nothing_of_who_may_not(world: World) -> None:
    world.exporter("off", enabled=False)
    refused = world.ask(waits_for_board=True)
    allowed = world.ask(allow_disabled=True)
    assert world.reason(refused) == ("Pending", True, "NoBoardYet")
    assert world.lease(allowed).exporter == "off"
    assert world.reason(world.ask()) == ("Unsatisfiable", True, "AllDisabled")


def test_a_board_that_says_it_has_a_lease_is_not_given_away_while_nobody_knows_of_it(world: World) -> None:
    """Another controller may have begun it, and of that only the first half has been heard."""
    evidence = StoreEvidence(asks=True)
    world.scheduler = Scheduler(world.presence, evidence=evidence)
    world.exporter("one", lease="theirs")
    key = world.ask()
    assert not world.lease(key).exporter
    evidence.prove_gone((Lease, Key(NS, "theirs")))
    world.step(0)
    assert world.lease(key).exporter == "one"


def test_a_minute_of_silence_is_offline_and_the_return_heals(world: World) -> None:
    world.exporter("one")
    world.presence.disconnected(Key(NS, "one"), world.now)
    world.step(61)
    exporter = world.lab.get(Exporter, Key(NS, "one"))
    assert exporter is not None
    assert exporter.status is ExporterStatus.OFFLINE
    key = world.ask()
    assert world.reason(key) == ("Pending", True, "Offline")
    world.presence.connected(Key(NS, "one"), world.now)
    world.set_exporter("one", status=ExporterStatus.AVAILABLE)
    assert world.lease(key).exporter == "one"


def test_who_has_only_registered_was_never_there(world: World) -> None:
    world.exporter("new", present=False, status=ExporterStatus.UNSPECIFIED)
    world.step(100)
    exporter = world.lab.get(Exporter, Key(NS, "new"))
    assert exporter is not None
    assert (exporter.status, exporter.status_message) == (ExporterStatus.OFFLINE, "it has not connected yet")
    assert world.reason(world.ask()) == ("Pending", True, "Offline")


def test_a_lease_for_later_waits_until_then(world: World) -> None:
    world.exporter("one")
    key = world.ask(begin_time=1500.0)
    assert world.lease(key).conditions == ()
    assert world.wake == 1500.0
    world.step(500)
    assert world.lease(key).begun == 1500.0
    assert world.wake == 1560.0


def test_release_extension_and_deletion(world: World) -> None:
    world.exporter("one")
    world.exporter("two")
    first, second = world.ask(), world.ask()
    world.change(first, duration=600.0)
    world.step(61)
    assert world.lease(first).active
    assert world.reason(second) == ("Ready", False, "Expired")
    world.change(first, release=True)
    assert world.reason(first) == ("Ready", False, "Released")
    third = world.ask(selector="", exporter_name="two")
    exporter = world.lab.get(Exporter, Key(NS, "two"))
    assert exporter is not None
    world.lab.remove(exporter)
    world.step(1)
    assert world.reason(third) == ("Ready", False, "Released")


def test_policies_approve_by_labels_and_duration_and_rank(world: World) -> None:
    world.exporter("one")
    world.client("ci", team="ci")
    world.client("dev", team="dev")
    rules = (Rule(("team=ci",), priority=5), Rule(("team=dev",), maximum_duration=100.0), Rule(()))
    world.put(Policy(namespace=NS, name="p", exporters="board=rpi4", rules=rules))
    assert world.reason(world.ask("ann")) == ("Unsatisfiable", True, "NoAccess")
    assert world.reason(world.ask("dev", duration=101.0)) == ("Unsatisfiable", True, "NoAccess")
    holder = world.ask("dev", duration=100.0)
    assert world.lease(holder).active
    early = world.ask("dev")
    world.step(1)
    urgent = world.ask("ci")
    places = world.scheduler.queue(world.lab, world.now)
    assert places[urgent].number == 1
    assert places[urgent].seconds == 99.0
    assert places[early].number == 2
    assert places[early].seconds == 159.0
    world.change(holder, release=True)
    assert world.lease(urgent).active
    assert world.lease(urgent).priority == 5
    assert not world.lease(early).exporter


def test_a_narrow_lease_does_not_block_a_wide_one(world: World) -> None:
    world.exporter("one", labels={"board": "rpi4", "site": "a"})
    world.exporter("two", labels={"board": "rpi4", "site": "b"})
    world.ask(selector="site=a")
    narrow = world.ask(selector="site=a")
    wide = world.ask()
    assert world.lease(wide).exporter == "two"
    assert not world.lease(narrow).exporter


def test_priority_counts_where_it_was_given(world: World) -> None:
    world.client("kernel", team="kernel")
    world.exporter("own", labels={"board": "rpi4", "team": "kernel"})
    world.exporter("shared")
    world.put(Policy(namespace=NS, name="own", exporters="team=kernel", rules=(Rule(("team=kernel",), 9),)))
    world.put(Policy(namespace=NS, name="all", rules=(Rule(("",)),)))
    holders = [world.ask(selector="", exporter_name=name) for name in ("own", "shared")]
    early = world.ask()
    late = world.ask("kernel")
    places = world.scheduler.queue(world.lab, world.now)
    assert (places[early].number, places[late].number) == (2, 1)
    world.change(holders[1], release=True)
    assert world.lease(early).exporter == "shared", "it is older, and both are equals there"
    third = world.ask()
    world.change(holders[0], release=True)
    assert (world.lease(late).exporter, world.lease(late).priority) == ("own", 9)
    assert not world.lease(third).exporter


def test_a_board_is_kept_for_who_asked_before_for_later(world: World) -> None:
    world.exporter("one")
    later = world.ask(begin_time=1100.0, sequence=1)
    world.step(50)
    long = world.ask(duration=51.0, sequence=2)
    assert world.reason(long) == ("Pending", True, "NotAvailable")
    assert "reserved" in world.lease(long).conditions[-1].message
    assert world.scheduler.queue(world.lab, world.now)[long].seconds == 110.0
    short = world.ask(duration=50.0, sequence=3)
    assert world.lease(short).active, "it is over in time"
    world.step(50)
    assert world.lease(later).begun == 1100.0
    world.step(60)
    assert world.lease(long).active


def test_who_begins_later_and_is_over_before_it_gets_a_board_stands_in_nobodys_way(world: World) -> None:
    world.exporter("one")
    world.ask(duration=100.0, sequence=1)
    world.ask(begin_time=1010.0, duration=20.0, sequence=2)
    waits = world.ask(sequence=3)
    assert world.scheduler.queue(world.lab, world.now)[waits].seconds == 100.0
    world.step(100)
    assert world.lease(waits).begun == 1100.0


def test_a_stream_of_newcomers_keeps_nobody_from_the_board(world: World) -> None:
    world.exporter("one")
    later = world.ask(selector="", exporter_name="one", begin_time=1100.0, duration=200.0, sequence=1)
    wide = None
    for number in range(30):
        key = world.ask(duration=60.0, sequence=2 + number)
        wide = wide or key
        world.step(10)
    assert world.lease(later).begun == 1100.0
    assert wide is not None
    assert world.lease(wide).begun == 1000.0
    begun = [lease.sequence for lease in world.lab.all(Lease) if lease.active]
    assert begun == [3], "the next one is the oldest of the others"


def test_who_asked_first_takes_what_was_promised_to_one_behind_it(world: World) -> None:
    world.exporter("one")
    holder = world.ask(sequence=1)
    first = world.ask(duration=100.0, sequence=2)
    later = world.ask(begin_time=1080.0, sequence=3)
    world.change(holder, release=True)
    assert world.lease(first).active
    world.step(80)
    assert world.reason(later) == ("Pending", True, "NotAvailable")
    world.step(20)
    assert world.lease(later).active
    assert world.lease(later).expiry == 1140.0, "its time is what it asked for"


def test_what_was_promised_and_taken_is_promised_elsewhere_before_the_next_one_gets_it(world: World) -> None:
    names = ("one", "two")
    for name in names:
        world.exporter(name, status=ExporterStatus.AFTER_LEASE_HOOK)
    first = world.ask(selector="", exporter_name="one", duration=200.0, sequence=1)
    later = world.ask(begin_time=1100.0, sequence=2)
    behind = world.ask(selector="", exporter_name="two", duration=200.0, sequence=3)
    for name in names:  # both at once: all is decided in one turn
        exporter = world.lab.get(Exporter, Key(NS, name))
        assert exporter is not None
        world.lab.put(replace(exporter, status=ExporterStatus.AVAILABLE))
    world.step(0)
    assert world.lease(first).exporter == "one", "it stands before the one who was promised this board"
    assert not world.lease(behind).exporter, "it would have the only other board for too long"
    world.step(100)
    assert world.lease(later).exporter == "two"


def test_of_two_boards_the_one_is_kept_that_nobody_else_wants(world: World) -> None:
    world.exporter("one")
    world.exporter("two", labels={"board": "rpi4", "n": "2"})
    later = world.ask(begin_time=1010.0, sequence=1)
    only = world.ask(selector="", exporter_name="one", sequence=2)
    assert world.lease(only).active
    world.step(10)
    assert world.lease(later).exporter == "two"


def test_a_bounded_number_of_leases_is_promised_a_board(world: World) -> None:
    for number in range(MAX_RESERVATIONS + 1):
        world.exporter(f"e{number:02}", labels={"board": "rpi4", "n": str(number)})
        world.ask(selector=f"n={number}", begin_time=1010.0, sequence=number + 1)
    kept = world.ask(selector="n=0", sequence=100)
    assert "reserved" in world.lease(kept).conditions[-1].message
    free = world.ask(selector=f"n={MAX_RESERVATIONS}", sequence=101)
    assert world.lease(free).active


def test_a_disabled_exporter_keeps_its_lease_and_gets_no_other(world: World) -> None:
    world.exporter("one")
    holder, waits = world.ask(), world.ask()
    world.set_exporter("one", enabled=False)
    assert world.lease(holder).active
    assert world.reason(waits) == ("Unsatisfiable", True, "AllDisabled")
    assert world.lease(waits).ended == world.now


def test_a_clock_that_is_set_back_lets_no_newcomer_pass(world: World) -> None:
    world.exporter("one")
    holder = world.ask(sequence=1)
    first = world.ask(sequence=2)
    world.now -= 86400
    second = world.ask(sequence=3)
    world.change(holder, release=True)
    assert world.lease(first).active
    assert not world.lease(second).exporter


def test_a_clock_that_is_set_back_makes_nobody_present_for_ever(world: World) -> None:
    exporter = world.exporter("one")
    world.presence.disconnected(exporter.key, world.now)
    world.now -= 86400
    assert world.reason(world.ask()) == ("Pending", True, "Offline")


events = st.lists(
    st.tuples(
        st.sampled_from(["ask", "release", "status", "connect", "drop", "step", "extend", "restart", "undo"]),
        st.integers(0, 5),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(events, st.integers(0, 1000))
def test_whatever_happens_no_exporter_is_leased_twice_and_nothing_is_stuck(
    happened: list[tuple[str, int]], seed: int
) -> None:
    world = World()
    rng = random.Random(seed)
    for name in ("ann", "bob"):
        world.client(name)
    for index in range(3):
        world.exporter(f"e{index}", labels={"board": "rpi4", "n": str(index)})
    asked: list[Key] = []
    for what, number in happened:
        exporter = Key(NS, f"e{number % 3}")
        match what:
            case "ask":
                selector = rng.choice(["board=rpi4", f"n={number % 3}", "n in (0,1)"])
                asked.append(world.ask(rng.choice(["ann", "bob"]), selector=selector, duration=10.0 + number))
            case "release" if asked:
                world.change(asked[number % len(asked)], release=True)
            case "extend" if asked:
                lease = world.lease(asked[number % len(asked)])
                world.change(lease.key, duration=lease.duration + 5)
            case "status":
                world.set_exporter(exporter.name, status=ExporterStatus(number))
            case "connect":
                world.presence.connected(exporter, world.now)
            case "drop":
                world.presence.disconnected(exporter, world.now)
            case "step":
                world.step(float(number * 10))
            case "restart":
                world.scheduler = Scheduler(world.presence)
            case "undo":
                mark = world.lab.mark()
                world.lab.put(Lease(namespace=NS, name="gone", client="ann", selector="board", duration=9.0))
                world.scheduler.reconcile(world.lab, world.now)
                world.lab.back_to(mark)
                assert world.lab.get(Lease, Key(NS, "gone")) is None
            case _:
                pass
        world.step(0)
        active = [lease.exporter for lease in world.lab.all(Lease) if lease.active]
        assert len(active) == len(set(active)), "one exporter, two leases"
        assert all(world.lab.get(Lease, key) is not None for key in asked), "a lease is lost"
        for lease in world.lab.all(Lease):
            holder = world.lab.holder(Key(NS, lease.exporter)) if lease.active else lease
            assert holder == lease
    # When every exporter is there and every lease runs out, each lease gets its turn.
    for index in range(3):
        world.presence.connected(Key(NS, f"e{index}"), world.now)
        world.set_exporter(f"e{index}", status=ExporterStatus.AVAILABLE)
    for _ in range(len(asked) * 2 + 2):
        if world.wake is None:
            break
        world.step(max(0.0, world.wake - world.now))
    assert not world.lab.open_leases(), "a lease is stuck"


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12))
def test_equals_are_served_in_the_order_in_which_they_came(durations: list[int]) -> None:
    world = World()
    world.client()
    world.exporter("one")
    keys = []
    for duration in durations:
        keys.append(world.ask(duration=float(duration)))
        world.step(0.1)
    predicted = world.scheduler.queue(world.lab, world.now)
    start = world.now
    for _ in keys:
        if world.wake is not None:
            world.step(max(0.0, world.wake - world.now))
    begun = [world.lease(key).begun or 0.0 for key in keys]
    assert begun == sorted(begun)
    for key, place in predicted.items():
        assert place.seconds == pytest.approx((world.lease(key).begun or 0.0) - start, abs=0.01)
