"""The scheduler under any order of events: restarts, clocks that are set, commands that are killed while they wait,
exporters that come, go and are disabled, that accept what they are offered, decline it, or say nothing; drains.

What must hold is written here a second time and naively, lease by lease and exporter by exporter.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.rpc import RpcError
from msgspec.structs import replace

from jumpstarter_controller.lab import (
    Client,
    ConditionType,
    Draft,
    Drain,
    Exporter,
    ExporterStatus,
    Key,
    Lease,
    Policy,
    Rule,
    UnavailableReason,
)
from jumpstarter_controller.lab.tables import KINDS
from jumpstarter_controller.scheduling import (
    ANSWER_SECONDS,
    PICKUP_SECONDS,
    WAITER_SECONDS,
    ExporterPresence,
    Scheduler,
    Waiters,
    follow_clock,
)
from jumpstarter_controller.selectors import parse
from jumpstarter_controller.services import changes
from jumpstarter_controller.services.messages import duration_of, timestamp

NS = "lab"
CLIENTS = ("ann", "bob", "eve")
EXPORTERS = ("e0", "e1", "e2")
READY = (ExporterStatus.AVAILABLE, ExporterStatus.UNSPECIFIED)
clients = st.sampled_from(CLIENTS)
exporters = st.sampled_from(EXPORTERS)
selectors = st.sampled_from(["board=rpi4", "n=0", "n=1", "n in (0,1)", "n!=0", "site=b", "board=none"])
seconds = st.sampled_from([1.0, 10.0, 30.0, 100.0])


def again(draft: Draft) -> Draft:
    """As it comes back from the store."""
    loaded = Draft()
    for kind in KINDS:
        for record in draft.all(kind):
            loaded.put(msgspec.json.decode(msgspec.json.encode(record), type=kind))
    loaded.commit()
    return loaded


class Machine(RuleBasedStateMachine):
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_800_000_000.0
        self.lab = Draft()
        self.presence = ExporterPresence()
        self.waiters = Waiters()
        self.scheduler = Scheduler(self.presence, self.waiters)
        self.wake: float | None = None
        self.passed = 0.0
        """Time that has really passed, whatever the clock says."""
        self.ends: dict[Key, float] = {}
        """When each lease that has begun has to end, by what has really passed."""
        self.commands: set[Key] = set()
        """Of leases for which a command waits that lives."""
        self.taken: set[Key] = set()
        """Leases whose command knows of its board, and has ended."""
        self.heard: dict[Key, float] = {}
        """When the commands of these leases asked for the last time; of all that ever had one."""
        self.asked: set[Key] = set()
        self.ended: dict[Key, Lease] = {}
        self.patient: set[Key] = set()
        """Leases that wait for a board to appear."""
        self.declined: dict[tuple[str, Key], Exporter] = {}
        """By exporter and lease: the exporter as it was when it declined."""

    @initialize()
    def build(self) -> None:
        for index, name in enumerate(CLIENTS):
            self.lab.put(Client(namespace=NS, name=name, uid=name, labels={"team": "abc"[index]}))
        for index, name in enumerate(EXPORTERS):
            self.add(name, index)
        self.decide()

    def add(self, name: str, index: int) -> None:
        """Some answer, some take what they get."""
        labels = {"board": "rpi4", "n": str(index), "site": "ab"[index % 2]}
        self.lab.put(
            Exporter(
                namespace=NS,
                name=name,
                uid=name,
                labels=labels,
                devices=1,
                status=ExporterStatus.AVAILABLE,
                answers=index > 0,
            )
        )
        self.presence.connected(Key(NS, name), self.now)

    # --- what happens

    def change(self, change: Callable[[], object]) -> None:
        """As the engine does it: all or nothing, then decisions."""
        mark = self.lab.mark()
        before = {kind: list(self.lab.all(kind)) for kind in KINDS}
        refused: RpcError | None = None
        try:
            change()
        except RpcError as error:
            refused = error
        if refused is not None:
            assert len(refused.details) > 20, "no sentence"
            self.lab.back_to(mark)
            for kind, records in before.items():
                assert {one.key: one for one in records} == {one.key: one for one in self.lab.all(kind)}
        self.decide()

    def decide(self) -> None:
        waiting = self.waiting()
        self.wake = self.scheduler.reconcile(self.lab, self.now)
        if self.is_drained:
            assert not any(self.lease(key).active for key in waiting), "it begins in a lab that is drained"
        self.lab.commit()
        for lease in self.lab.all(Lease):
            self.waiters.written(lease.key, lease)
        self.check_order([lease for key in waiting if (lease := self.lease(key)).active])
        for lease in self.lab.all(Lease):
            if lease.ended is not None:
                assert self.ended.setdefault(lease.key, lease) == lease, "an ended lease has changed"

    def lease(self, key: Key) -> Lease:
        lease = self.lab.get(Lease, key)
        assert lease is not None, "a lease is lost"
        return lease

    def waiting(self) -> list[Key]:
        return [one.key for one in self.lab.open_leases() if not one.exporter]

    @rule(
        target=leases,
        client=clients,
        selector=selectors,
        name=st.sampled_from(["", "", "", *EXPORTERS, "e9"]),
        duration=seconds,
        begin=st.sampled_from([None, None, None, 0.0, 20.0, 200.0]),
        flags=st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    )
    def ask(  # noqa: PLR0917 - hypothesis names them
        self,
        client: str,
        selector: str,
        name: str,
        duration: float,
        begin: float | None,
        flags: tuple[bool, bool, bool, bool],
    ) -> object:
        allow, end, waits, patient = flags
        asked = client_pb2.Lease(
            selector="" if name else selector,
            exporter_name=name,
            duration=duration_of(duration),
            allow_disabled=allow,
        )
        if begin is not None:
            asked.begin_time.CopyFrom(timestamp(self.now + begin))
            if end:
                asked.end_time.CopyFrom(timestamp(self.now + begin + duration))
        known = set(self.asked)
        record = self.lab.get(Client, Key(NS, client))
        if record is None:
            return multiple()

        def apply() -> None:
            key = changes.create_lease(
                self.lab, self.now, record, "", asked, waited=waits, waits_for_board=patient
            ).key
            self.asked.add(key)
            if patient:
                self.patient.add(key)
            if waits:
                self.commands.add(key)
                self.heard[key] = self.passed

        self.change(apply)
        return multiple(*(self.asked - known))

    @rule(lease=leases, duration=seconds, begin=st.sampled_from([None, None, 5.0, 50.0]))
    def update(self, lease: Key, duration: float, begin: float | None) -> None:
        self.ends.pop(lease, None)
        asked = client_pb2.Lease(duration=duration_of(duration))
        if begin is not None:
            asked.begin_time.CopyFrom(timestamp(self.now + begin))
        self.apply_update(lease, asked)

    @rule(lease=leases, client=clients)
    def transfer(self, lease: Key, client: str) -> None:
        self.apply_update(lease, client_pb2.Lease(client=f"namespaces/{NS}/clients/{client}"))

    def apply_update(self, key: Key, asked: client_pb2.Lease) -> None:
        owner = self.lab.get(Client, Key(NS, self.lease(key).client))
        if owner is not None:
            self.change(lambda: changes.update_lease(self.lab, self.now, owner, key, asked))

    @rule(lease=leases)
    def kill_command(self, lease: Key) -> None:
        self.commands.discard(lease)

    @rule(lease=leases)
    def ask_again(self, lease: Key) -> None:
        """As a command does now and then, and once more when it is told of its board."""
        if lease in self.commands:
            self.heard[lease] = self.passed
            if (record := self.lease(lease)).waited:
                self.waiters.heard(record, self.now)
            if record.accepted:
                self.commands.discard(lease)
                self.taken.add(lease)
            self.decide()

    @rule(lease=leases)
    def release(self, lease: Key) -> None:
        self.change(lambda: changes.release(self.lab, self.lease(lease)))

    @rule(name=exporters, status=st.sampled_from(ExporterStatus))
    def report(self, name: str, status: ExporterStatus) -> None:
        self.presence.saw(Key(NS, name), self.now)
        self.change(lambda: changes.report(self.lab, Key(NS, name), status, ""))

    @rule(name=exporters, answers=st.booleans())
    def answer_or_not(self, name: str, answers: bool) -> None:
        """Another version of the exporter comes."""
        found = self.lab.get(Exporter, Key(NS, name))
        if found is not None:
            self.lab.put(replace(found, answers=answers))
        self.decide()

    def offer(self, name: str) -> Lease | None:
        holder = self.lab.holder(Key(NS, name))
        return holder if holder is not None and holder.offered is not None else None

    @rule(name=exporters)
    def accept(self, name: str) -> None:
        if (lease := self.offer(name)) is not None:
            self.change(lambda: changes.accept_lease(self.lab, self.now, Key(NS, name), lease.name))
            after = self.lease(lease.key)
            assert self.now in (after.begun, after.ended)

    @rule(name=exporters, is_news=st.sampled_from([True, True, False]))
    def decline(self, name: str, is_news: bool) -> None:
        if (lease := self.offer(name)) is None:
            return
        why = [UnavailableReason("local-use", "in local use by ana")]
        self.change(lambda: changes.decline_lease(self.lab, Key(NS, name), lease.name, why, is_news=is_news))
        after = self.lease(lease.key)
        assert (after.sequence, after.created) == (lease.sequence, lease.created), "it has lost its place"
        if is_news:
            assert after.exporter != name, "it was offered to who has just declined it"
            exporter = self.lab.get(Exporter, Key(NS, name))
            assert exporter is not None
            self.declined[name, lease.key] = exporter

    @rule(name=exporters)
    def drop(self, name: str) -> None:
        self.presence.disconnected(Key(NS, name), self.now)
        self.decide()

    @rule(name=exporters)
    def unregister(self, name: str) -> None:
        self.change(lambda: changes.unregister(self.lab, Key(NS, name), ""))

    @rule(name=exporters)
    def delete_or_create(self, name: str) -> None:
        found = self.lab.get(Exporter, Key(NS, name))
        if found is None:
            self.add(name, EXPORTERS.index(name))
        else:
            self.lab.remove(found)
            self.presence.disconnected(found.key, self.now)
        self.decide()

    @rule(name=exporters)
    def disable_or_enable(self, name: str) -> None:
        found = self.lab.get(Exporter, Key(NS, name))
        if found is not None:
            self.lab.put(replace(found, enabled=not found.enabled))
        self.decide()

    @rule(name=clients, whole=st.booleans())
    def change_client(self, name: str, whole: bool) -> None:
        found = self.lab.get(Client, Key(NS, name))
        if found is None:
            team = "abc"[CLIENTS.index(name)]
            self.lab.put(Client(namespace=NS, name=name, uid=name, labels={"team": team}))
        elif whole:
            self.lab.remove(found)
        else:
            self.lab.put(replace(found, enabled=not found.enabled))
        self.decide()

    @rule(longest=seconds, priority=st.integers(0, 2), more=st.integers(0, 2))
    def set_policies(self, longest: float, priority: int, more: int) -> None:
        rules = (
            Rule(("team=a",), priority),
            Rule(("team=b", "team=c"), more, longest),
            Rule((), 9),  # admits nobody
        )
        self.lab.put(Policy(namespace=NS, name="p", exporters="n in (0,1)", rules=rules))
        self.lab.put(Policy(namespace=NS, name="q", rules=(Rule(("",), 1, 30.0),)))
        self.decide()

    @rule()
    def remove_policies(self) -> None:
        for policy in list(self.lab.all(Policy)):
            self.lab.remove(policy)
        self.decide()

    @property
    def is_drained(self) -> bool:
        return self.lab.get(Drain, Drain.KEY) is not None

    @rule()
    def drain(self) -> None:
        self.lab.put(Drain(namespace=Drain.KEY.namespace, name=Drain.KEY.name))
        running = [one for one in self.lab.open_leases() if one.accepted]
        self.decide()
        for lease in running:
            assert self.lease(lease.key).exporter == lease.exporter, "what runs goes on"

    @rule()
    def resume(self) -> None:
        if (drain := self.lab.get(Drain, Drain.KEY)) is not None:
            self.lab.remove(drain)
        self.decide()

    @rule(passed=seconds)
    def wait(self, passed: float) -> None:
        end = self.now + passed
        while self.now < end:
            self.sleep(min(end, self.now + WAITER_SECONDS / 3))
            for key in list(self.commands):
                self.ask_again(key)

    def sleep(self, until: float) -> None:
        while self.wake is not None and self.wake <= until:
            self.pass_to(max(self.now, self.wake))
            self.decide()
            if self.wake is not None:
                assert self.wake > self.now, "it would never sleep"
        self.pass_to(until)
        self.decide()

    def pass_to(self, now: float) -> None:
        self.passed += now - self.now
        self.now = now

    @rule(far=st.sampled_from([-1e6, -86400.0, -70.0, -3.0, 3.0, 3600.0]))
    def set_clock(self, far: float) -> None:
        follow_clock(self.lab, far)
        self.lab.commit()
        self.presence.shift(far)
        self.waiters.shift(far)
        self.now += far
        self.decide()

    @rule(far=st.sampled_from([0.0, 0.0, 0.0, -1e6, -86400.0, -70.0, -3.0, 3.0, 3600.0]))
    def restart(self, far: float) -> None:
        """If the clock is set while the controller is down, nobody can tell."""
        self.now += far
        if far:
            self.ends.clear()
        self.heard = dict.fromkeys(self.heard, self.passed)
        connected = [name for name in EXPORTERS if self.presence.is_connected(Key(NS, name))]
        self.lab = again(self.lab)
        self.presence = ExporterPresence()
        for exporter in self.lab.all(Exporter):
            if exporter.devices and exporter.status is not ExporterStatus.OFFLINE:
                self.presence.saw(exporter.key, self.now)
        for name in connected:
            self.presence.connected(Key(NS, name), self.now)
        self.waiters = Waiters()
        self.scheduler = Scheduler(self.presence, self.waiters)
        self.decide()

    # --- what must hold

    def priority(self, lease: Lease, exporter: Exporter) -> int | None:
        """The highest priority that a policy gives; None if the lease may not have the exporter."""
        client = self.lab.get(Client, Key(NS, lease.client))
        if client is None or not client.enabled:
            return None
        if lease.exporter_name and exporter.name != lease.exporter_name:
            return None
        if not parse(lease.selector).matches(exporter.labels):
            return None
        if not exporter.enabled and not lease.allow_disabled:
            return None
        found = [] if any(True for _ in self.lab.all(Policy)) else [0]
        found += [
            one.priority
            for policy in self.lab.all(Policy)
            for one in policy.rules
            if parse(policy.exporters).matches(exporter.labels)
            and any(parse(text).matches(client.labels) for text in one.clients)
            and lease.duration <= (one.maximum_duration or math.inf)
        ]
        return max(found, default=None)

    def is_there(self, exporter: Exporter) -> bool:
        return (
            exporter.devices > 0
            and exporter.status is not ExporterStatus.OFFLINE
            and self.presence.is_fresh(exporter.key, self.now)
        )

    def is_promised(self, exporter: Exporter, lease: Lease) -> bool:
        """Whether one in front of that lease could want it, that begins before the lease would end."""
        end = replace(lease, begun=self.now).expiry or math.inf
        mine = self.priority(lease, exporter)
        for other in self.lab.open_leases():
            if other.exporter or other.begin_time is None or not self.now < other.begin_time < end:
                continue
            theirs = self.priority(other, exporter)
            if (
                theirs is not None
                and mine is not None
                and (-theirs, other.sequence) < (-mine, lease.sequence)
            ):
                return True
        return False

    def check_order(self, begun: list[Lease]) -> None:
        for lease in begun:
            exporter = self.lab.get(Exporter, Key(NS, lease.exporter))
            assert exporter is not None
            mine = self.priority(lease, exporter)
            assert mine is not None, "it may not have it"
            assert lease.priority == mine
            for key in self.waiting():
                other = self.lease(key)
                if other.begin_time is not None and other.begin_time > self.now:
                    continue
                theirs = self.priority(other, exporter)
                if theirs is not None and (-theirs, other.sequence) < (-mine, lease.sequence):
                    assert self.is_promised(exporter, other), "a lease was passed by one behind it"

    @invariant()
    def no_exporter_is_leased_twice(self) -> None:
        active = [lease.exporter for lease in self.lab.all(Lease) if lease.active]
        assert len(active) == len(set(active))

    @invariant()
    def an_exporter_that_is_not_available_is_wanted_by_the_first_who_waits_for_it(self) -> None:
        for exporter in self.lab.all(Exporter):
            is_held_up = exporter.status not in READY and self.lab.holder(exporter.key) is None
            found = []
            for lease in self.lab.open_leases():
                is_later = lease.begin_time is not None and lease.begin_time > self.now
                priority = self.priority(lease, exporter)
                if not lease.exporter and not is_later and priority is not None:
                    found.append((-priority, lease.sequence, lease.key))
            is_held_up = is_held_up and self.is_there(exporter) and not self.is_drained
            expected = min(found)[2] if found and is_held_up else None
            assert self.scheduler.next_waiting.get(exporter.key) == expected

    @invariant()
    def nothing_is_lost_or_stuck(self) -> None:
        assert {lease.key for lease in self.lab.all(Lease)} == self.asked
        for lease in self.lab.all(Lease):
            if lease.ended is not None or lease.active:
                self.check_ready(lease)
            elif lease.begin_time is None or lease.begin_time <= self.now:
                self.check_waiting(lease)
            due = lease.begin_time if not lease.active and lease.ended is None else lease.expiry
            if lease.ended is None and due is not None and due > self.now:
                assert self.wake is not None
                assert self.wake <= due

    @invariant()
    def who_has_declined_is_not_tried_before_it_is_available_again(self) -> None:
        for (name, key), exporter in list(self.declined.items()):
            now = self.lab.get(Exporter, Key(NS, name))
            if now is None or now.status in READY or now.uid != exporter.uid:
                del self.declined[name, key]
            else:
                assert self.lease(key).exporter != name

    @invariant()
    def each_lasts_its_time_whatever_the_clock_says(self) -> None:
        for lease in self.lab.open_leases():
            if lease.accepted and lease.end_time is None and lease.expiry is not None:
                left = lease.expiry - self.now
                end = self.ends.setdefault(lease.key, self.passed + left)
                assert abs(end - self.passed - left) < 0.001

    @invariant()
    def nobody_waits_whose_command_is_gone(self) -> None:
        for lease in self.lab.all(Lease):
            ready = lease.condition(ConditionType.READY)
            if ready is not None and ready.message.startswith("the command that waited"):
                assert lease.key in self.heard, "no command ever waited for it"
                assert lease.key not in self.commands | self.taken, "it was asked for, and taken"
            elif lease.waited and lease.ended is None:
                silent = self.passed - self.heard[lease.key]
                held = -1.0 if lease.begun is None else self.now - lease.begun
                assert silent < WAITER_SECONDS or 0 <= held < PICKUP_SECONDS

    def check_ready(self, lease: Lease) -> None:
        last = lease.conditions[-1]
        assert lease.active or lease.offered is None
        assert lease.begun is not None or lease.active or not lease.exporter, (
            "it ended with a board that it never had"
        )
        if lease.active and lease.offered is not None:
            assert (last.type, last.holds, last.reason) == (ConditionType.PENDING, True, "Offered")
            assert lease.begun is None
            assert 0 <= self.now - lease.offered < ANSWER_SECONDS
            assert self.wake is not None
            assert self.wake <= lease.offered + ANSWER_SECONDS
            exporter = self.lab.get(Exporter, Key(NS, lease.exporter))
            assert exporter is not None
            assert exporter.answers
            assert self.is_there(exporter)
        elif lease.active:
            assert (last.type, last.holds) == (ConditionType.READY, True)
        elif last.type is ConditionType.READY:
            assert not last.holds
            assert last.reason in {"Released", "Expired"}
        else:
            assert last.holds
            assert last.type in {ConditionType.UNSATISFIABLE, ConditionType.INVALID}
            if lease.key in self.patient:
                assert "is disabled" in last.message, "it was to wait for a board"
                assert lease.client in last.message
        assert all(one.holds for one in lease.conditions[:-1])

    def could_have(self, lease: Lease) -> list[Exporter]:
        return [one for one in self.lab.all(Exporter) if self.priority(lease, one) is not None]

    def check_waiting(self, lease: Lease) -> None:
        last = lease.conditions[-1]
        assert (last.type, last.holds) == (ConditionType.PENDING, True)
        mine = self.could_have(lease)
        if not mine:
            assert lease.key in self.patient, "it can never have one, and waits"
            assert last.reason == "NoBoardYet"
            assert last.message.startswith("no such board yet: ")
            client = self.lab.get(Client, Key(NS, lease.client))
            assert client is not None
            assert client.enabled, "no board will ever be for it"
            return
        assert (last.code == "drained") == self.is_drained
        if self.is_drained:
            assert last.reason == "NotAvailable"
            return
        here = [one for one in mine if self.is_there(one)]
        ready = [one for one in here if self.lab.holder(one.key) is None and one.status in READY]
        if not here:
            assert last.reason == "Offline"
        elif all(self.lab.holder(one.key) for one in here):
            assert last.reason == "NotAvailable"
        elif not ready:
            assert last.reason == "NotReady"
        else:
            assert last.reason == "NotAvailable"
            assert all(self.is_promised(one, lease) for one in ready), "it waits, and one is free"

    @invariant()
    def estimates_come_true(self) -> None:
        places = self.scheduler.queue(self.lab, self.now)
        waiting = {
            one.key
            for one in self.lab.open_leases()
            if not one.exporter
            and (one.begin_time is None or one.begin_time <= self.now)
            and self.could_have(one)
        }
        assert set(places) == waiting
        assert all(1 <= place.number <= len(places) for place in places.values())
        if self.is_drained:
            assert all(place.seconds is None for place in places.values()), "nobody knows when"
        elif places:
            self.live_on({key: place.seconds for key, place in places.items() if place.seconds is not None})

    def live_on(self, promised: dict[Key, float]) -> None:
        """A world in which nothing new happens: who is there stays there, and boards are ready when they are free."""
        lab, presence, now = again(self.lab), ExporterPresence(), self.now
        there = set[Key]()
        for exporter in list(lab.all(Exporter)):
            if self.presence.is_fresh(exporter.key, now):
                there.add(exporter.key)
                presence.connected(exporter.key, now)
            status = exporter.status
            if lab.holder(exporter.key) is not None and status is not ExporterStatus.OFFLINE:
                status = ExporterStatus.AVAILABLE
            lab.put(replace(exporter, status=status, answers=False))  # it accepts all at once
        for one in lab.open_leases():
            lab.put(replace(one, waited=False))
        # A connection is preferred: keep who has one and who has none apart.
        presence.is_connected = self.presence.is_connected  # type: ignore[method-assign]
        presence.is_fresh = lambda exporter, _: exporter in there  # type: ignore[method-assign, assignment]
        scheduler = Scheduler(presence)
        for _ in range(4 * len(self.asked) + 4):
            wake = scheduler.reconcile(lab, now)
            if wake is None:
                break
            now = max(now, wake)
        for key, after in promised.items():
            lease = lab.get(Lease, key)
            assert lease is not None
            assert lease.begun is not None, "it was to begin, and never did"
            assert abs(lease.begun - self.now - after) < 0.001

    def teardown(self) -> None:
        """When every exporter is there, and every lease runs out, and none is held back, each gets its turn."""
        self.resume()
        for exporter in list(self.lab.all(Exporter)):
            self.presence.connected(exporter.key, self.now)
            self.lab.put(replace(exporter, devices=1))
            changes.report(self.lab, exporter.key, ExporterStatus.AVAILABLE, "")
        for _ in range(4 * len(self.asked) + 4):
            self.decide()
            for name in EXPORTERS:
                self.accept(name)
            if self.wake is None:
                break
            self.now = max(self.now, self.wake)
        for lease in self.lab.open_leases():
            assert lease.key in self.patient, "a lease is stuck"
            assert not self.could_have(lease), "it waits for a board that is there"


TestMachine = pytest.mark.timeout(600)(Machine.TestCase)  # to find the shortest failure takes its time
TestMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
