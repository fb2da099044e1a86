"""Numbers count each thing once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from jumpstarter_controller.lab import Lease
from jumpstarter_controller.reconciler.counters import Counters, Histogram

LEASE = Lease(namespace="lab", name="l", client="ann", created=100.0, duration=60.0)


def test_a_lease_counts_once_whatever_becomes_of_it() -> None:
    counters = Counters()
    ready = replace(LEASE, exporter="e", begun=102.0)
    longer = replace(ready, duration=90.0)
    ended = replace(longer, ended=150.0)
    for before, after in [(None, LEASE), (LEASE, ready), (ready, longer), (longer, ended), (ended, None)]:
        counters.note(before, after)
    assert counters.acquisitions == {"success": 1, "failure": 0}
    assert counters.waits.cumulated()[-1][1] == 1
    assert counters.waits.total == 2.0
    given_up = replace(LEASE, ended=101.0)
    counters.note(None, LEASE)
    counters.note(LEASE, given_up)
    counters.note(given_up, given_up)
    counters.note(given_up, None)
    assert counters.acquisitions == {"success": 1, "failure": 1}
    counters.note(ready, None)
    assert counters.acquisitions == {"success": 1, "failure": 1}
    counters.note(LEASE, None)
    assert counters.acquisitions == {"success": 1, "failure": 2}


def test_the_wait_for_a_future_begin_does_not_count() -> None:
    counters = Counters()
    later = replace(LEASE, begin_time=1000.0)
    counters.note(later, replace(later, exporter="e", begun=1001.0))
    assert counters.waits.total == 1.0


@given(st.lists(st.floats(0, 100)))
def test_a_histogram_counts_as_prometheus_does(values: list[float]) -> None:
    histogram = Histogram([1.0, 10.0])
    for value in values:
        histogram.observe(value)
    assert histogram.cumulated() == [
        (1.0, sum(value <= 1 for value in values)),
        (10.0, sum(value <= 10 for value in values)),
        (float("inf"), len(values)),
    ]
