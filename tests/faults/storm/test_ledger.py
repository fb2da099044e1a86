"""The ledger of a storm names everything that was lost, and nothing else."""

from __future__ import annotations

from itertools import islice

import hypothesis.strategies as st
from hypothesis import given

from tests.faults.storm.ledger import Ledger, forgotten, shared
from tests.faults.storm.weather import WEIGHTS, clock_offset, forecast


@given(st.lists(st.integers(1, 5), max_size=8))
def test_one_user_after_another_is_no_loss(uses: list[int]) -> None:
    marks = [f"lease-{number}" for number, count in enumerate(uses) for _ in range(count)]
    assert shared(marks) == []


@given(st.integers(1, 3), st.integers(1, 3))
def test_a_user_who_comes_back_after_another_is_named(first: int, second: int) -> None:
    assert shared(["a"] * first + ["b"] * second + ["a"]) == ["a"]


def test_what_is_reported_as_lost_is_a_loss_and_an_error_that_was_heard_is_not() -> None:
    ledger = Ledger(
        [
            {"user": "ann", "what": "ready", "lease": "one"},
            {"user": "ann", "what": "error", "text": "the connection broke"},
            {"user": "ann", "what": "echoed", "bytes": "12"},
            {"user": "bob", "what": "lost", "text": "3 of 4 bytes"},
            {"user": "bob", "what": "unexpected", "text": "Traceback"},
        ]
    )
    assert ledger.losses() == ["bob: lost: 3 of 4 bytes", "bob: unexpected: Traceback"]
    assert ledger.bytes_echoed() == 12
    assert forgotten(ledger.held(), []) == ["one"]
    assert forgotten(ledger.held(), ["one", "two"]) == []


def test_a_seed_gives_the_same_storm_in_which_everything_happens() -> None:
    events = list(islice(forecast(7), 400))
    assert events == list(islice(forecast(7), 400))
    assert {event.what for event in events} == set(WEIGHTS)
    assert {clock_offset(event.choice) for event in events} == {-3600, 0, 3600}
