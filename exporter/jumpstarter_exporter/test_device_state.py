"""A device's states."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from jumpstarter_proto.errors import JumpstarterUsageError

from jumpstarter_exporter.device_state import (
    CONDITION_TRANSITIONS,
    DeviceLayer,
    LayerCondition,
    Lifecycle,
    State,
)
from jumpstarter_exporter.errors import DeviceBusy

LAYERS = st.sampled_from(["driver", "core"])


class LifecycleMachine(RuleBasedStateMachine):
    """Whatever drivers, cores and users do, each step is one of the table, and nothing is reported twice."""

    def __init__(self) -> None:
        super().__init__()
        self.lifecycle = Lifecycle()
        self.layers = {"driver": self.lifecycle.driver, "core": self.lifecycle.core}
        self.held: AbstractContextManager[None] | None = None
        self.returned: list[Callable[[], None]] = []
        self.is_unplugged = False
        self.seen = (self.lifecycle.state, self.lifecycle.reason)
        self.lifecycle.watch(self._watch)
        Lifecycle.strict = False

    def _watch(self, before: State, now: State, reason: str) -> None:
        assert before is self.seen[0]
        assert (now, reason) != self.seen
        self.seen = (now, reason)

    @contextmanager
    def step(self, layer: str) -> Iterator[DeviceLayer]:
        """A change of one layer by the table; the other one only sees that its hardware is back."""
        before = {name: one.condition for name, one in self.layers.items()}
        yield self.layers[layer]
        for name, one in self.layers.items():
            was, now = before[name], one.condition
            if name == layer:
                assert now is was or now in CONDITION_TRANSITIONS[was]
            else:
                assert now is was or (name, was, now) == (
                    "driver",
                    LayerCondition.MISSING,
                    LayerCondition.CLOSED,
                )

    @rule(layer=LAYERS)
    def starting(self, layer: str) -> None:
        if self.layers[layer].is_open:
            self.layers[layer].starting()  # as one that was closed before
        else:
            with self.step(layer) as one:
                one.starting()
        assert self.layers[layer].condition is LayerCondition.STARTING

    @rule(layer=LAYERS)
    def ready(self, layer: str) -> None:
        with self.step(layer) as one:
            was = one.condition
            one.ready()
            assert (one.condition is LayerCondition.READY) == (was.is_open or was is LayerCondition.STARTING)

    @rule(layer=LAYERS)
    def started(self, layer: str) -> None:
        with self.step(layer) as one:
            one.started()
            assert one.condition is not LayerCondition.STARTING

    @rule(layer=LAYERS, missing=st.none() | st.just("not found"))
    def closed(self, layer: str, missing: str | None) -> None:
        with self.step(layer) as one:
            one.closed(missing)
            assert not one.is_open

    @rule(layer=LAYERS, reason=st.sampled_from(["unplugged", "switched off"]))
    def missing(self, layer: str, reason: str) -> None:
        with self.step(layer) as one:
            was = one.condition
            one.missing(reason)
            assert (one.condition.state is State.MISSING) == (was is not LayerCondition.FAILED)

    @rule(layer=LAYERS)
    def found(self, layer: str) -> None:
        with self.step(layer) as one:
            one.found()
            assert one.condition is not LayerCondition.MISSING

    @rule(layer=LAYERS, reason=st.sampled_from(["burnt", "wet"]))
    def failed(self, layer: str, reason: str) -> None:
        with self.step(layer) as one:
            one.failed(reason)
        assert (self.lifecycle.state is State.FAILED) == (not self.is_unplugged or bool(self.returned))

    @rule()
    def stuck(self) -> None:
        self.returned.append(self.lifecycle.stuck("does not come back"))
        assert self.lifecycle.state is State.FAILED

    @rule()
    def comes_back(self) -> None:
        if self.returned:
            self.returned.pop()()

    @rule(reason=st.sampled_from(["unplugged at noon", "not seen"]))
    def unplugged(self, reason: str) -> None:
        self.lifecycle.unplugged(reason)
        self.is_unplugged = True

    @rule()
    def plugged(self) -> None:
        self.lifecycle.plugged()
        self.is_unplugged = False

    @rule()
    def take(self) -> None:
        hold = self.lifecycle.exclusive("being flashed")
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
        Lifecycle.strict = True

    @invariant()
    def shows_what_it_reported(self) -> None:
        assert self.seen == (self.lifecycle.state, self.lifecycle.reason)

    @invariant()
    def busy_means_ready_and_held(self) -> None:
        assert not self.is_unplugged or self.lifecycle.condition is State.MISSING
        busy = self.lifecycle.condition is State.READY and self.held is not None and not self.returned
        assert (self.lifecycle.state is State.BUSY) == busy

    @invariant()
    def is_as_bad_as_its_worst_layer(self) -> None:
        states = {layer.condition.state for layer in self.layers.values()}
        if self.is_unplugged and not self.returned:
            assert self.lifecycle.state is State.MISSING
            assert self.lifecycle.reason == self.lifecycle.why_unplugged
        elif self.returned or State.FAILED in states:
            assert self.lifecycle.state is State.FAILED
        elif states == {State.READY}:
            assert self.lifecycle.state in (State.READY, State.BUSY)
        else:
            assert self.lifecycle.state in (State.STARTING, State.MISSING)


TestLifecycle = LifecycleMachine.TestCase


def test_a_device_says_whether_its_last_use_found_it() -> None:
    life = Lifecycle()
    assert (life.state, life.reason) == (State.READY, Lifecycle.UNTRIED)
    life.driver.starting()
    life.driver.started()
    assert (life.state, life.reason) == (State.READY, "")
    life.driver.closed()
    assert (life.state, life.reason) == (State.READY, Lifecycle.UNUSED)
    life.unplugged("unplugged at 12:00:01")
    life.driver.starting()
    life.driver.closed(missing="unplugged")
    life.plugged()
    assert (life.state, life.reason) == (State.READY, Lifecycle.UNTRIED)


def opened() -> Lifecycle:
    life = Lifecycle()
    life.starting()
    life.driver.started()
    return life


def test_a_device_that_vanishes_while_held_is_missing_and_busy_again_when_it_returns() -> None:
    life = opened()
    with life.exclusive("being read"):
        life.missing("unplugged")
        assert (life.state, life.reason) == (State.MISSING, "unplugged")
        life.ready()
        assert (life.state, life.reason) == (State.BUSY, "being read")
    assert life.state is State.READY


def test_what_failed_or_was_closed_without_hardware_is_ready_only_through_a_start() -> None:
    for condition in (LayerCondition.FAILED, LayerCondition.MISSING):
        assert not CONDITION_TRANSITIONS[condition] & {LayerCondition.READY, LayerCondition.GONE}
        assert LayerCondition.STARTING in CONDITION_TRANSITIONS[condition]
    assert all(
        LayerCondition.STARTING not in ways for one, ways in CONDITION_TRANSITIONS.items() if one.is_open
    )


def test_what_the_table_forbids_is_an_error_in_tests_and_a_warning_that_changes_nothing_in_the_field(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    life = opened()
    life.failed("burnt")
    for say in (life.ready, lambda: life.missing("unplugged")):
        with pytest.raises(JumpstarterUsageError, match="failed cannot become"):
            say()
    monkeypatch.setattr(Lifecycle, "strict", False)
    life.ready()
    assert (life.state, life.reason) == (State.FAILED, "burnt")
    assert "a device that is failed cannot become ready" in caplog.text


def test_an_open_device_that_is_opened_again_was_closed_between(monkeypatch: pytest.MonkeyPatch) -> None:
    life = opened()
    monkeypatch.setattr(Lifecycle, "strict", False)
    life.starting()
    assert life.state is State.STARTING


def test_a_driver_that_found_no_hardware_is_ready_when_its_core_has_found_it() -> None:
    life = Lifecycle()
    life.core.starting()
    life.core.missing("unplugged")
    life.core.started()
    life.driver.starting()
    life.driver.closed(missing="there is no port")
    assert (life.state, life.reason) == (State.MISSING, "there is no port")
    life.core.ready()
    assert (life.state, life.reason) == (State.READY, Lifecycle.UNUSED)


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
