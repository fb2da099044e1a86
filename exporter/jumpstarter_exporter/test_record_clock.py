"""Whatever the host's clock does, records are in the order in which they came, and a begin is between two of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_exporter.record_clock import MAX_WAIT_NANOSECONDS, RecordClock

NOW = 1_800_000_000_000_000_000
HOUR = 3_600_000_000_000

steps = st.one_of(
    st.sampled_from(["record", "begin"]),
    st.integers(-MAX_WAIT_NANOSECONDS // 50, 100 * HOUR),
    st.integers(0, 3),
)


@given(st.lists(steps, max_size=50))
def test_it_does_not_go_back(done: list[str | int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        wall, clock = NOW, RecordClock()
        patch.setattr("time.time_ns", lambda: wall)
        records, hidden = [0], 0
        for step in done:
            if isinstance(step, int):
                wall += step
            elif step == "record":
                records.append(clock.now())
                assert records[-1] >= records[-2]
                assert records[-1] >= hidden, "it belongs to the lease that has begun"
            else:
                hidden = int(clock.begin() * 1e9)
                assert hidden > records[-1], "it does not belong to that lease"


def test_a_clock_that_was_days_ahead_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = RecordClock()
    monkeypatch.setattr("time.time_ns", lambda: NOW)
    clock.reached(NOW + MAX_WAIT_NANOSECONDS + 1)
    assert clock.now() == NOW
    clock.reached(NOW + MAX_WAIT_NANOSECONDS)
    assert clock.now() == NOW + MAX_WAIT_NANOSECONDS
    monkeypatch.setattr("time.time_ns", lambda: NOW - 1)
    assert clock.now() == NOW - 1
