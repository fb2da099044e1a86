"""Whatever sources do: what they cause is let through or counted, never both, and never more than is promised."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_controller.audit import rates
from jumpstarter_controller.audit.entry import AuditEntry
from jumpstarter_controller.audit.rates import BURST_ENTRIES, ENTRIES_PER_SECOND, Rates

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", "cem"]),
        st.integers(1, 400),
        st.floats(0, 60),
        st.integers(0, 50),
    ),
    max_size=30,
)


@given(STEPS)
def test_nothing_is_lost_without_a_count_and_nobody_gets_more_than_is_promised(
    steps: list[tuple[str, int, float, int]],
) -> None:
    found, now = Rates(), 0.0
    came: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    counted: Counter[str] = Counter()
    for who, number, pause, more in steps:
        now += pause
        for one in found.due(now):
            counted[one.client] += one.more
        for index in range(number):
            beside = more if index == 0 else 0
            came[who] += 1 + beside
            kept[who] += found.admit(AuditEntry(now, client=who), (who,), now, beside)
        assert kept[who] <= BURST_ENTRIES + now * ENTRIES_PER_SECOND + 1
    for one in found.due(now, all_of_it=True):
        counted[one.client] += one.more
    assert kept + counted == came
    assert not found.is_counting


@given(st.lists(st.integers(0, 10_000), max_size=200))
def test_sources_without_number_take_no_memory_without_end(sources: list[int]) -> None:
    before, rates.MAX_SOURCES = rates.MAX_SOURCES, 20
    try:
        found = Rates()
        for number in sources:
            found.admit(AuditEntry(0.0), (str(number),), 0.0)
        assert len(found._buckets) <= 21
    finally:
        rates.MAX_SOURCES = before


def test_whoever_did_nothing_for_long_makes_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MAX_SOURCES", 20)
    found = Rates()
    for number in range(20):
        found.admit(AuditEntry(0.0), (str(number),), 0.0)
    kept = [found.admit(AuditEntry(0.0), (who,), 1000.0) for who in ("a", "b") for _ in range(BURST_ENTRIES)]
    assert all(kept)


def test_a_count_names_what_all_of_them_share() -> None:
    found = Rates()
    for number in range(BURST_ENTRIES + 2):
        found.admit(AuditEntry(0.0, "lab", board="one", client="ann", lease=str(number)), ("x",), 0.0)
    (entry,) = found.due(0.0, all_of_it=True)
    assert (entry.namespace, entry.board, entry.client, entry.lease, entry.more) == (
        "lab",
        "one",
        "ann",
        "",
        2,
    )


def test_each_count_is_of_what_came_since_the_one_before() -> None:
    found = Rates()
    for _ in range(BURST_ENTRIES):
        found.admit(AuditEntry(0.0), ("x",), 0.0)
    for time, user in ((1.0, "ana"), (2.0, "bea")):
        assert not found.admit(AuditEntry(time, board="one", user=user, is_call=True), ("x",), 0.0)
    assert [*found.due(rates.TELL_SECONDS - 1)] == []
    [first] = found.due(rates.TELL_SECONDS)
    assert first == AuditEntry(2.0, board="one", is_call=True, more=2), "as of when the last one came"
    counting = [found.is_counting]
    found.count(AuditEntry(3.0, board="two", user="ana"), ("x",), 0.5, 4)
    counting.append(found.is_counting)
    assert counting == [False, True]
    assert [*found.due(rates.TELL_SECONDS + 0.4)] == []
    [second] = found.due(rates.TELL_SECONDS + 0.5)
    assert second == AuditEntry(3.0, board="two", user="ana", more=4)


def test_a_count_that_nobody_was_told_yet_does_not_make_room_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rates, "MAX_SOURCES", 2)
    found = Rates()
    for _ in range(BURST_ENTRIES + 7):
        found.admit(AuditEntry(0.0, client="ann"), ("ann",), 0.0)
    for who in ("bob", "cem", "dan"):
        assert found.admit(AuditEntry(0.0, client=who), (who,), 1000.0)
    assert [(one.client, one.more) for one in found.due(1000.0)] == [("ann", 7)]
