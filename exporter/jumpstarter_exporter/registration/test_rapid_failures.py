"""Rapid failures are counted as Jumpstarter 0.9's parent process does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_exporter.registration.rapid_failures import RapidFailures

lifetimes = st.lists(st.none() | st.floats(0, 200), max_size=30)
"""Of servings, in seconds; None is one that did not begin."""


def theirs(lifetimes: list[float | None], limit: int, window: int) -> int | None:
    """After which child 0.9 gives up (jumpstarter_cli/run.py, _serve_with_exc_handling); None if it does not."""
    rapid_failure_count = 0
    for number, elapsed in enumerate(lifetimes):
        if (elapsed or 0.0) < window:
            rapid_failure_count += 1
            if rapid_failure_count >= limit:
                return number
        else:
            rapid_failure_count = 0
    return None


@given(lifetimes, st.integers(-1, 6), st.integers(0, 100))
def test_it_gives_up_when_jumpstarter_does(lifetimes: list[float | None], limit: int, window: int) -> None:
    failures, now = RapidFailures(limit, window), 0.0
    given_up: int | None = None
    for number, lifetime in enumerate(lifetimes):
        if lifetime is not None:
            failures.began(now)
            assert not failures.is_exceeded, "while it is served"
            failures.failed(now + lifetime - 0.0)
        else:
            failures.failed(now)
        if failures.is_exceeded:
            given_up = number
            break
    assert given_up == theirs(lifetimes, limit, window)


def test_pauses_between_servings_do_not_count() -> None:
    failures = RapidFailures(2, 10)
    for now in (0, 1000):
        failures.began(now)
        failures.failed(now + 1)
    assert failures.is_exceeded


def test_a_serving_that_lasts_is_a_new_beginning() -> None:
    failures = RapidFailures(2, 10)
    failures.failed(0)
    failures.began(1)
    failures.failed(11)
    failures.failed(12)
    assert (failures.count, failures.is_exceeded) == (1, False)


def test_it_is_not_given_up_while_it_is_served() -> None:
    failures = RapidFailures(1, 10)
    failures.failed(0)
    failures.began(1)
    assert not failures.is_exceeded
