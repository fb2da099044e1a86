"""What a lease's user hears, whatever happens in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_client.lease.lease_watch import (
    GRACE_SECONDS,
    POLL_SECONDS,
    LeaseObservation,
    LeaseWatch,
    WatchState,
)

HOUR = LeaseObservation(3600, "ann")


def watch(look: LeaseObservation = HOUR) -> LeaseWatch:
    found = LeaseWatch("x", "ann")
    assert len(found.observe(look, 0)) == (look is not HOUR and (look.remaining or 0) <= 300)
    return found


def run(found: LeaseWatch, until: float, look: LeaseObservation | None = None) -> list[tuple[float, str]]:
    """Let time pass; each look finds what is left of an hour, or `look`."""
    told = []
    now = found.next_wake
    while now <= until and not found.end_reason:
        looks, said = found.advance(now)
        if looks:
            over = LeaseObservation(0, "ann", "its time is over")
            said += found.observe(look or (LeaseObservation(3600 - now, "ann") if now < 3600 else over), now)
        told += [(now, sentence) for sentence in said]
        assert found.next_wake > now or found.end_reason, "it would spin"
        now = found.next_wake
    return told


def test_a_lease_that_is_left_alone_warns_once_and_ends_once() -> None:
    assert run(watch(), 9999) == [
        (3300, "the lease ends in 5m; to keep the board: jumpstarter lease extend x 30m"),
        (3600, "the lease has ended: its time is over"),
    ]


def test_the_warning_does_not_wait_for_the_next_poll() -> None:
    found = watch(LeaseObservation(3610, "ann"))
    told: list[float] = []
    while not told:
        now = found.next_wake
        looks, said = found.advance(now)
        told += [now for _ in said]
        if looks:
            assert found.observe(LeaseObservation(3610 - now, "ann"), now) == []
    assert told == [3310]


def test_a_short_lease_warns_at_once() -> None:
    found = LeaseWatch("x", "ann")
    (sentence,) = found.observe(LeaseObservation(90, "ann"), 0)
    assert sentence.startswith("the lease ends in 1m;")
    assert found.advance(50) == (True, [])


def test_an_extension_is_noticed_and_the_new_end_is_warned_of() -> None:
    found = watch(LeaseObservation(301, "ann"))
    assert len(found.advance(2)[1]) == 1
    assert found.observe(LeaseObservation(271 + 1800, "ann"), 30) == ["lease x was extended; it ends in 34m"]
    assert found.advance(31) == (False, [])
    told = found.advance(30 + 271 + 1500)[1]
    assert told == ["the lease ends in 5m; to keep the board: jumpstarter lease extend x 30m"]
    assert found.observe(LeaseObservation(60, "ann"), 1900)[0] == "lease x was shortened; it ends in 1m"


@pytest.mark.parametrize(
    ("look", "sentence"),
    [
        (LeaseObservation(None, "ann", "it was released"), "the lease has ended: it was released"),
        (LeaseObservation(1000, "bob"), "the lease has ended: it was transferred to bob"),
    ],
)
def test_what_others_do_to_it_is_told(look: LeaseObservation, sentence: str) -> None:
    found = watch()
    assert found.observe(look, 30) == [sentence]
    assert (found.state, found.end_reason) == (WatchState.ENDED, sentence)
    assert found.observe(HOUR, 31) == found.unreachable("x", 32) == found.not_found(33) == []
    assert found.advance(9999) == (False, [])


def test_a_controller_that_is_away_is_one_notice_and_ends_nothing_before_its_time() -> None:
    found = watch()
    assert found.unreachable("refused", 30) == ["the controller is unreachable (refused); lease x continues"]
    assert found.unreachable("refused", 60) == []
    assert found.observe(LeaseObservation(3500, "ann"), 100) == ["the controller is reachable again"]
    for now in range(130, 3600, 30):
        found.advance(now)
        found.unreachable("refused", now)
    assert found.state is WatchState.UNREACHABLE
    assert found.unreachable("refused", 3600 + GRACE_SECONDS - 1) == []
    assert found.unreachable("refused", 3600 + GRACE_SECONDS) == ["the lease has ended: it has expired"]


def test_a_controller_that_is_late_to_end_it_is_asked_again_and_believed() -> None:
    found = watch(LeaseObservation(10, "ann"))
    assert found.advance(10)[0]
    assert found.observe(LeaseObservation(0.0, "ann"), 10) == []
    assert (found.state, found.next_wake) == (WatchState.RUNNING, 11)
    assert found.advance(11)[0]
    assert found.observe(LeaseObservation(1800, "ann"), 11) == ["lease x was extended; it ends in 30m"]


events = st.lists(
    st.tuples(
        st.floats(0, 90),
        st.one_of(
            st.just("away"),
            st.builds(LeaseObservation, st.none() | st.floats(0, 7200), st.just("ann")),
            st.builds(
                LeaseObservation, st.none() | st.floats(0, 7200), st.sampled_from(["ann", "bob"]), st.just("")
            ),
            st.builds(LeaseObservation, st.none(), st.just("ann"), st.sampled_from(["", "it was released"])),
        ),
    ),
    max_size=60,
)


@given(st.floats(1, 7200), events)
def test_whatever_happens(first: float, happens: list[tuple[float, LeaseObservation | str]]) -> None:
    found = LeaseWatch("x", "ann")
    told = found.observe(LeaseObservation(first, "ann"), 0)
    now, ends = 0.0, first
    for delay, event in happens:
        now += delay
        was_over = found.state is WatchState.ENDED
        said = found.advance(now)[1]
        if isinstance(event, LeaseObservation):
            said += found.observe(event, now)
            ends = ends if event.remaining is None else now + event.remaining
        else:
            said += found.unreachable("x", now)
        assert not (was_over and said), "nothing is said after the end"
        if found.state is WatchState.ENDED and not was_over and isinstance(event, str):
            assert now >= ends, "nobody's absence ends a lease before its time"
        if found.state is not WatchState.ENDED:
            assert now < found.next_wake <= now + POLL_SECONDS
        told += said
    assert sum("has ended" in one for one in told) == (found.state is WatchState.ENDED)
    away = [one for one in told if one.startswith("the controller is")]
    assert [("unreachable" in one) for one in away] == [index % 2 == 0 for index in range(len(away))]
