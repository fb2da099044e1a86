"""Whatever becomes of their requests, and however their clocks run: two replicas never lead at the same time."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jumpstarter_controller.replicas.election import (
    CLAIM_SECONDS,
    LEASE_SECONDS,
    MAX_DRIFT,
    RENEW_SECONDS,
    Election,
    LeaderRecord,
)


@dataclass
class World:
    """A record with versions, and the true time."""

    source: random.Random
    lost: float
    """How likely a request or its answer gets lost."""
    slowest: float
    """Seconds that a request, its answer, or a process may take at most."""
    now: float = 0.0
    claim: LeaderRecord | None = None
    version: int = 0
    due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self.due, (self.now + seconds, next(self.numbers), act))

    def delay(self) -> float:
        return self.source.choice([0.0, 0.01, self.source.uniform(0.0, self.slowest)])

    def is_lost(self) -> bool:
        return self.source.random() < self.lost


class Replica:
    """Drives an election through the world, as the task does that runs it."""

    def __init__(self, world: World, name: str, rate: float) -> None:
        self.world = world
        self.name = name
        self.rate = rate
        self.offset = world.source.uniform(0, 1000)
        self.start()

    def clock(self) -> float:
        return self.world.now * self.rate + self.offset

    def start(self) -> None:
        self.election = Election(self.name, self.clock)
        self.alive = object()
        self.look()

    def _then(self, act: Callable[[], None], seconds: float | None = None) -> None:
        """In this life of it."""
        life = self.alive
        delay = self.world.delay() if seconds is None else seconds
        self.world.later(delay, lambda: act() if self.alive is life else None)

    def look(self) -> None:
        def read() -> None:
            claim, version = self.world.claim, str(self.world.version)
            self._then(lambda: self.seen(claim, version))

        if self.world.is_lost():
            self._then(self.fail)
        else:
            self._then(read)

    def seen(self, claim: LeaderRecord | None, version: str) -> None:
        self.election.observe(claim, version)
        if (wanted := self.election.proposal()) is None:
            self._then(self.look, self.election.pause() / self.rate)
        else:
            self.election.begin()
            self.write(wanted, self.answered)

    def write(self, wanted: LeaderRecord, answered: Callable[[LeaderRecord, str], None] | None) -> None:
        upon, life = self.election.version, self.alive

        def answer(act: Callable[[], None]) -> None:
            if self.alive is life:  # another process gets no answer to what this one has asked
                self._then(act)

        def arrive() -> None:
            world = self.world
            if (world.claim is None) != (upon == "") or (upon and upon != str(world.version)):
                answer(self.fail)
                return
            world.claim = wanted
            world.version += 1
            version = str(world.version)
            if world.is_lost():
                answer(self.fail)
            elif answered is not None:
                answer(lambda: answered(wanted, version))

        # What is on its way arrives, whether who sent it lives or not.
        self.world.later(self.world.delay(), arrive)

    def answered(self, claim: LeaderRecord, version: str) -> None:
        self.election.granted(claim, version)
        self._then(self.look, self.election.pause() / self.rate)

    def fail(self) -> None:
        self.election.refused()
        self._then(self.look, self.election.pause() / self.rate)

    def restart(self) -> None:
        """`kill -9`, and a new process of the same identity."""
        self.start()

    def stop(self) -> None:
        """It ends as it should, and somebody starts it again later."""
        resignation = self.election.resign()
        if resignation is not None:
            self.write(resignation, None)
        self.alive = object()
        self._then(self.start, 3.0)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32),
    rates=st.lists(st.floats(1 - MAX_DRIFT, 1 + MAX_DRIFT), min_size=2, max_size=4),
    lost=st.sampled_from([0.0, 0.1, 0.5]),
    slowest=st.sampled_from([0.1, 2.0, 10.0]),
)
def test_two_never_lead_at_the_same_time(seed: int, rates: list[float], lost: float, slowest: float) -> None:
    world = World(random.Random(seed), lost, slowest)
    replicas = [Replica(world, f"replica-{number}", rate) for number, rate in enumerate(rates)]
    led = set()
    while world.due and world.now < 120:
        world.now, _, act = heapq.heappop(world.due)
        act()
        leaders = [one.name for one in replicas if one.election.leads]
        assert len(leaders) <= 1, (world.now, leaders)
        led.update(leaders)
        if world.source.random() < 0.02:
            one = world.source.choice(replicas)
            world.source.choice([one.restart, one.stop])()
    if not lost and slowest < 1:
        assert led


class Single:
    """Elections over one record that answers at once."""

    def __init__(self) -> None:
        self.now = 0.0
        self.claim: LeaderRecord | None = None
        self.version = 0

    def election(self, name: str) -> Election:
        return Election(name, lambda: self.now)

    def turn(self, election: Election) -> None:
        election.observe(self.claim, str(self.version) if self.claim else "")
        if (claim := election.proposal()) is not None:
            election.begin()
            self.write(claim)
            election.granted(claim, str(self.version))

    def write(self, claim: LeaderRecord) -> None:
        self.claim = claim
        self.version += 1


def test_who_dies_is_followed_when_its_record_was_unchanged_for_long_enough() -> None:
    world = Single()
    first, second = world.election("first"), world.election("second")
    world.turn(first)
    world.turn(second)
    assert [one.leads for one in (first, second)] == [True, False]
    assert second.holder == "first"
    began = world.now
    while not second.leads:
        world.now += max(second.pause(), 0.01)
        world.turn(second)
    assert LEASE_SECONDS <= world.now - began <= LEASE_SECONDS + 0.1
    assert [one.leads for one in (first, second)] == [False, True]
    assert world.claim == LeaderRecord("second", transitions=1)


def test_who_renews_goes_on_and_who_lets_go_is_followed_at_once() -> None:
    world = Single()
    first, second = world.election("first"), world.election("second")
    for _ in range(20):
        world.turn(first)
        world.turn(second)
        assert first.leads
        assert not second.leads
        assert first.pause() == RENEW_SECONDS
        world.now += RENEW_SECONDS
    claim = first.resign()
    assert claim is not None
    assert not first.leads
    assert first.proposal() is None
    world.write(claim)
    world.turn(second)
    assert second.leads
    world.turn(first)
    assert first.resign() is None


def test_who_cannot_write_leads_no_more_before_another_can() -> None:
    world = Single()
    first = world.election("first")
    world.turn(first)
    world.now += CLAIM_SECONDS
    first.refused()
    assert not first.leads
    assert first.pause() < RENEW_SECONDS
    world.turn(first)
    assert first.leads


def test_a_process_that_is_started_again_leads_at_once_where_it_led_before() -> None:
    world = Single()
    world.turn(world.election("first"))
    again = world.election("first")
    world.turn(again)
    assert again.leads


@pytest.mark.parametrize("seconds", [0.1, LEASE_SECONDS - 0.1])
def test_a_record_that_somebody_deletes_is_made_anew_by_the_one_that_led(seconds: float) -> None:
    world = Single()
    first, second = world.election("first"), world.election("second")
    world.turn(first)
    world.turn(second)
    world.claim = None
    world.now += seconds
    world.turn(second)
    assert not second.leads
    world.turn(first)
    assert first.leads
