"""A device's states."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from jumpstarter_proto.errors import JumpstarterUsageError

from jumpstarter_exporter.errors import DeviceBusy
from jumpstarter_exporter.lifecycle import TRANSITIONS, Lifecycle, State


class LifecycleMachine(RuleBasedStateMachine):
    """Whatever drivers and users do, each visible step is one of the table, and nothing is reported twice."""

    def __init__(self) -> None:
        super().__init__()
        self.life = Lifecycle()
        self.held: AbstractContextManager[None] | None = None
        self.seen = (self.life.state, self.life.reason)
        self.life.watch(self._watch)

    def _watch(self, before: State, now: State, reason: str) -> None:
        assert before is self.seen[0]
        assert now is before or now in TRANSITIONS[before]
        assert (now, reason) != self.seen
        self.seen = (now, reason)

    @rule()
    def starting(self) -> None:
        self.life.starting()

    @rule()
    def ready(self) -> None:
        self.life.ready()
        assert self.life.state in (State.READY, State.BUSY)

    @rule()
    def closed(self) -> None:
        before = self.life.condition
        self.life.closed()
        assert (self.life.condition is State.READY) == (before in (State.READY, State.STARTING))

    @rule(reason=st.sampled_from(["unplugged", "switched off"]))
    def missing(self, reason: str) -> None:
        self.life.missing(reason)

    @rule(reason=st.sampled_from(["burnt", "wet"]))
    def failed(self, reason: str) -> None:
        self.life.failed(reason)
        assert (self.life.state, self.life.reason) == (State.FAILED, reason)

    @rule()
    def take(self) -> None:
        hold = self.life.exclusive("being flashed")
        if self.held is None:
            hold.__enter__()
            self.held = hold
        else:
            with pytest.raises(DeviceBusy, match="being flashed"):
                hold.__enter__()

    @rule()
    def give_back(self) -> None:
        if self.held is not None:
            self.held.__exit__(None, None, None)
            self.held = None

    def teardown(self) -> None:
        self.give_back()

    @invariant()
    def shows_what_it_reported(self) -> None:
        assert self.seen == (self.life.state, self.life.reason)

    @invariant()
    def busy_means_ready_and_held(self) -> None:
        busy = self.life.condition is State.READY and self.held is not None
        assert (self.life.state is State.BUSY) == busy


TestLifecycle = LifecycleMachine.TestCase


def test_a_new_device_is_ready_and_says_that_it_is_not_in_use() -> None:
    life = Lifecycle()
    assert (life.state, life.reason) == (State.READY, Lifecycle.UNOPENED)


def test_a_device_that_vanishes_while_held_is_missing_and_busy_again_when_it_returns() -> None:
    life = Lifecycle()
    with life.exclusive("being read"):
        life.missing("unplugged")
        assert (life.state, life.reason) == (State.MISSING, "unplugged")
        life.ready()
        assert (life.state, life.reason) == (State.BUSY, "being read")
    assert life.state is State.READY


def test_every_state_has_a_way_back_to_ready() -> None:
    assert all(State.READY in TRANSITIONS[state] for state in State if state is not State.READY)


def test_a_way_that_the_table_does_not_have_is_a_developers_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRANSITIONS, State.READY, frozenset())
    with pytest.raises(JumpstarterUsageError, match="ready cannot become failed"):
        Lifecycle().failed("burnt")


def test_only_one_of_many_threads_gets_the_device() -> None:
    life = Lifecycle()
    winners = []
    go, done = threading.Barrier(8), threading.Barrier(8)

    def take() -> None:
        go.wait()
        try:
            with life.exclusive("taken"):
                winners.append(1)
                done.wait()
        except DeviceBusy:
            done.wait()

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(winners) == 1
