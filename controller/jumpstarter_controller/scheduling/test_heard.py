"""When a command that waits was heard of, whatever else was looked at meanwhile."""

from __future__ import annotations

from jumpstarter_controller.lab import Key, Lease
from jumpstarter_controller.scheduling import WAITER_SECONDS, Waiters
from jumpstarter_controller.scheduling.waiters import PICKUP_SECONDS, TELL_SECONDS

WAITS = Lease(namespace="lab", name="l", client="ann", duration=600.0, waited=True)
BEGUN = Lease(
    namespace="lab", name="l", client="ann", duration=600.0, waited=True, exporter="one", begun=100.0
)
KEY = WAITS.key


def test_who_stops_watching_has_a_minute_from_then_on() -> None:
    waiters = Waiters()
    waiters.heard(WAITS, 0.0)
    waiters.watched(KEY, "watch")
    waiters.watched(KEY, "another")
    waiters.unwatched(KEY, "another", 50.0)
    waiters.unwatched(KEY, "watch", 100.0)
    assert waiters.limit(WAITS, 100.0) == 100.0 + WAITER_SECONDS


def test_who_gets_a_board_late_has_time_to_see_it() -> None:
    waiters = Waiters()
    waiters.heard(WAITS, 45.0)
    assert waiters.limit(BEGUN, 100.0) == 100.0 + PICKUP_SECONDS
    waiters.heard(WAITS, 99.0)
    assert waiters.limit(BEGUN, 100.0) == 99.0 + WAITER_SECONDS


def test_nothing_is_known_of_a_lease_that_has_the_name_of_one_that_is_gone() -> None:
    waiters = Waiters()
    waiters.heard(BEGUN, 100.0)
    assert waiters.is_picked_up(KEY, 100.0)
    waiters.written(KEY, BEGUN)
    assert waiters.is_picked_up(KEY, 100.0)
    waiters.written(KEY, None)
    assert not waiters.is_picked_up(KEY, 100.0)
    assert waiters.limit(WAITS, 500.0) == 500.0 + WAITER_SECONDS


def test_which_commands_another_controller_is_told_of() -> None:
    waiters, quiet = Waiters(), Lease(namespace="lab", name="quiet", client="ann", waited=True)
    other = Lease(namespace="lab", name="other", client="ann")
    waiters.heard(WAITS, 100.0)
    leases = [WAITS, quiet, other]
    assert waiters.to_tell(leases, 100.0 + TELL_SECONDS - 1) == {KEY: False}
    assert waiters.to_tell(leases, 100.0 + TELL_SECONDS) == {}
    waiters.watched(KEY, "watch")
    assert waiters.to_tell(leases, 500.0) == {KEY: False}
    waiters.heard(BEGUN, 500.0)
    assert waiters.to_tell([BEGUN], 900.0) == {KEY: True}
    there = Waiters()
    there.heard_elsewhere(KEY, 5.0, knows=False)
    assert (there.is_picked_up(KEY, 5.0), there.limit(WAITS, 5.0)) == (False, 5.0 + WAITER_SECONDS)
    there.heard_elsewhere(KEY, 9.0, knows=True)
    assert there.is_picked_up(KEY, 9.0)
    assert not there.is_picked_up(Key("other", "l"), 9.0)
