"""What a lease's user hears, whatever happens in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_client.lease.lease_watch import GRACE_SECONDS, LOOK_SECONDS, Look, Phase, Term

HOUR = Look(3600, "ann")


def term(look: Look = HOUR) -> Term:
    found = Term("x", "ann")
    assert len(found.seen(look, 0)) == (look is not HOUR and (look.remaining or 0) <= 300)
    return found


def run(found: Term, until: float, look: Look | None = None) -> list[tuple[float, str]]:
    """Let time pass; each look finds what is left of an hour, or `look`."""
    told = []
    now = found.wake
    while now <= until and not found.verdict:
        looks, said = found.due(now)
        if looks:
            over = Look(0, "ann", "its time is over")
            said += found.seen(look or (Look(3600 - now, "ann") if now < 3600 else over), now)
        told += [(now, sentence) for sentence in said]
        assert found.wake > now or found.verdict, "it would spin"
        now = found.wake
    return told


def test_a_lease_that_is_left_alone_warns_once_and_ends_once() -> None:
    assert run(term(), 9999) == [
        (3300, "the lease ends in 5m; to keep the board: jumpstarter lease extend x 30m"),
        (3600, "the lease has ended: its time is over"),
    ]


def test_the_warning_does_not_wait_for_the_next_look() -> None:
    found = term(Look(3610, "ann"))
    told: list[float] = []
    while not told:
        now = found.wake
        looks, said = found.due(now)
        told += [now for _ in said]
        if looks:
            assert found.seen(Look(3610 - now, "ann"), now) == []
    assert told == [3310]


def test_a_short_lease_warns_at_once() -> None:
    found = Term("x", "ann")
    (sentence,) = found.seen(Look(90, "ann"), 0)
    assert sentence.startswith("the lease ends in 1m;")
    assert found.due(50) == (True, [])


def test_an_extension_is_noticed_and_the_new_end_is_warned_of() -> None:
    found = term(Look(301, "ann"))
    assert len(found.due(2)[1]) == 1
    assert found.seen(Look(271 + 1800, "ann"), 30) == ["lease x was extended; it ends in 34m"]
    assert found.due(31) == (False, [])
    told = found.due(30 + 271 + 1500)[1]
    assert told == ["the lease ends in 5m; to keep the board: jumpstarter lease extend x 30m"]
    assert found.seen(Look(60, "ann"), 1900)[0] == "lease x was shortened; it ends in 1m"


@pytest.mark.parametrize(
    ("look", "sentence"),
    [
        (Look(None, "ann", "it was released"), "the lease has ended: it was released"),
        (Look(1000, "bob"), "the lease has ended: it was given to bob"),
    ],
)
def test_what_others_do_to_it_is_told(look: Look, sentence: str) -> None:
    found = term()
    assert found.seen(look, 30) == [sentence]
    assert (found.phase, found.verdict) == (Phase.OVER, sentence)
    assert found.seen(HOUR, 31) == found.away("x", 32) == found.missing(33) == []
    assert found.due(9999) == (False, [])


def test_a_controller_that_is_away_is_one_notice_and_ends_nothing_before_its_time() -> None:
    found = term()
    assert found.away("refused", 30) == ["the controller is away (refused); lease x goes on meanwhile"]
    assert found.away("refused", 60) == []
    assert found.seen(Look(3500, "ann"), 100) == ["the controller is back"]
    for now in range(130, 3600, 30):
        found.due(now)
        found.away("refused", now)
    assert found.phase is Phase.UNKNOWN
    assert found.away("refused", 3600 + GRACE_SECONDS - 1) == []
    assert found.away("refused", 3600 + GRACE_SECONDS) == ["the lease has ended: its time is over"]


def test_a_controller_that_is_late_to_end_it_is_asked_again_and_believed() -> None:
    found = term(Look(10, "ann"))
    assert found.due(10)[0]
    assert found.seen(Look(0.0, "ann"), 10) == []
    assert (found.phase, found.wake) == (Phase.RUNS, 11)
    assert found.due(11)[0]
    assert found.seen(Look(1800, "ann"), 11) == ["lease x was extended; it ends in 30m"]


events = st.lists(
    st.tuples(
        st.floats(0, 90),
        st.one_of(
            st.just("away"),
            st.builds(Look, st.none() | st.floats(0, 7200), st.just("ann")),
            st.builds(Look, st.none() | st.floats(0, 7200), st.sampled_from(["ann", "bob"]), st.just("")),
            st.builds(Look, st.none(), st.just("ann"), st.sampled_from(["", "it was released"])),
        ),
    ),
    max_size=60,
)


@given(st.floats(1, 7200), events)
def test_whatever_happens(first: float, happens: list[tuple[float, Look | str]]) -> None:
    found = Term("x", "ann")
    told = found.seen(Look(first, "ann"), 0)
    now, ends = 0.0, first
    for delay, event in happens:
        now += delay
        was_over = found.phase is Phase.OVER
        said = found.due(now)[1]
        if isinstance(event, Look):
            said += found.seen(event, now)
            ends = ends if event.remaining is None else now + event.remaining
        else:
            said += found.away("x", now)
        assert not (was_over and said), "nothing is said after the end"
        if found.phase is Phase.OVER and not was_over and isinstance(event, str):
            assert now >= ends, "nobody's absence ends a lease before its time"
        if found.phase is not Phase.OVER:
            assert now < found.wake <= now + LOOK_SECONDS
        told += said
    assert sum("has ended" in one for one in told) == (found.phase is Phase.OVER)
    away = [one for one in told if one.startswith("the controller is")]
    assert [("away" in one) for one in away] == [index % 2 == 0 for index in range(len(away))]
