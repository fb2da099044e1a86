"""A lease that a command waits for ends when that command is gone; all others stay."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from jumpstarter_controller.app import OPTIONS
from jumpstarter_controller.lab import Client, Draft, Exporter, ExporterStatus, Key, Lease
from jumpstarter_controller.scheduling import (
    PICKUP_SECONDS,
    WAITER_SECONDS,
    WATCHED_SECONDS,
    ExporterPresence,
    Scheduler,
    Waiters,
    follow_clock,
)

START = 1000.0


class Queue:
    """One exporter, held by the lease `holder`, and `waiting` behind it, which began to wait at START."""

    def __init__(self, *, waited: bool = True) -> None:
        self.now = START
        self.lab = Draft()
        self.waiters = Waiters()
        presence = ExporterPresence()
        presence.connected(Key("lab", "one"), self.now)
        self.scheduler = Scheduler(presence, self.waiters)
        status = ExporterStatus.AVAILABLE
        self.lab.put(Exporter(namespace="lab", name="one", uid="1", devices=1, status=status))
        self.lab.put(Client(namespace="lab", name="ann", uid="2"))
        for order, name in enumerate(("holder", "waiting")):
            fields = {"client": "ann", "exporter_name": "one", "duration": 1e6, "sequence": order}
            self.lab.put(Lease(namespace="lab", name=name, waited=waited and order > 0, **fields))  # type: ignore[arg-type]
            self.at(self.now)

    @property
    def lease(self) -> Lease:
        return self["waiting"]

    def __getitem__(self, name: str) -> Lease:
        lease = self.lab.get(Lease, Key("lab", name))
        assert lease is not None
        return lease

    def at(self, now: float) -> Lease:
        """`waiting` as it is then."""
        self.now = now
        self.wake = self.scheduler.reconcile(self.lab, now)
        self.lab.commit()
        return self["holder" if self.lab.count(Lease) == 1 else "waiting"]

    def heard(self, now: float) -> None:
        self.waiters.heard(self.lease, now)
        self.at(now)

    def release_holder(self, now: float) -> Lease:
        self.lab.put(replace(self["holder"], release=True))
        return self.at(now)


def why(lease: Lease) -> str:
    assert lease.ended is not None
    return lease.conditions[-1].message


def test_it_leaves_the_queue_a_minute_after_its_command_was_heard_of_for_the_last_time() -> None:
    queue = Queue()
    queue.heard(START + 50)
    assert queue.at(START + 50 + WAITER_SECONDS - 1).ended is None
    assert queue.wake == START + 50 + WAITER_SECONDS
    assert why(queue.at(queue.wake)) == "the command that waited for it was not heard of for 60 s"


def test_what_it_got_goes_to_others_when_its_command_does_not_take_it() -> None:
    queue = Queue()
    begun = START + WAITER_SECONDS - 1
    assert queue.release_holder(begun).exporter == "one"
    assert queue.at(begun + PICKUP_SECONDS - 1).ended is None, "its command may just have a bad connection"
    assert queue.wake == begun + PICKUP_SECONDS
    assert why(queue.at(queue.wake)) == "the command that waited for it did not take it within 30 s"
    assert queue.lab.holder(Key("lab", "one")) is None


def test_what_was_taken_stays_though_nobody_is_heard_of_any_more() -> None:
    queue = Queue()
    queue.release_holder(START + 10)
    queue.heard(START + 12)
    assert not queue.lease.waited, "it is on the disk, and holds after a restart"
    assert queue.at(START + 1e5).ended is None


def test_a_lease_without_a_command_stays_in_the_queue() -> None:
    queue = Queue(waited=False)
    assert queue.at(START + 1e5).ended is None


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_clock_that_is_set_ends_no_wait_and_prolongs_none(step: float) -> None:
    queue = Queue()
    queue.heard(START + 10)
    follow_clock(queue.lab, step)
    queue.waiters.shift(step)
    begin = START + 10 + step
    assert queue.at(begin + WAITER_SECONDS - 1).ended is None
    assert queue.at(begin + WAITER_SECONDS).ended is not None


class Watch:
    """Of a command."""


def test_who_watches_waits_for_as_long_as_the_watch_is_open_and_a_minute_more() -> None:
    queue, watch = Queue(), Watch()
    queue.waiters.watched(queue.lease.key, watch)
    assert queue.at(START + 1e5).ended is None
    queue.waiters.unwatched(queue.lease.key, watch, START + 1e5)
    assert queue.at(START + 1e5 + WAITER_SECONDS - 1).ended is None
    assert queue.wake == START + 1e5 + WAITER_SECONDS
    assert "was not heard of for 60 s" in why(queue.at(queue.wake))


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 150),
            st.sampled_from(("watches", "ends a watch", "asks", "others change something")),
        )
    )
)
def test_a_lease_that_waits_is_in_the_line_until_a_minute_after_the_last_sign_of_its_command(
    events: list[tuple[int, str]],
) -> None:
    queue, watches, last = Queue(), list[Watch](), START
    for pause, what in events:
        now = queue.now + pause
        due = math.inf if watches else last + WAITER_SECONDS
        while queue.wake is not None and queue.now < queue.wake <= now:
            queue.at(queue.wake)
        if due <= now:
            assert queue.now == due
            assert "was not heard of" in why(queue.lease)
            return
        before, last = last, now
        if what == "watches":
            watches.append(Watch())
            queue.waiters.watched(queue.lease.key, watches[-1])
        elif what == "asks":
            queue.waiters.heard(queue.lease, now)
        elif what == "ends a watch" and watches:
            queue.waiters.unwatched(queue.lease.key, watches.pop(0), now)
        else:
            last = before
        queue.at(now)
        assert queue.lease.ended is None


def test_a_board_that_was_told_to_who_watches_is_theirs_when_their_connection_has_lasted() -> None:
    queue, watch = Queue(), Watch()
    queue.waiters.watched(queue.lease.key, watch)
    queue.release_holder(START + 10)
    queue.waiters.told(queue.lease.key, watch, START + 12)
    assert queue.at(START + 12 + WATCHED_SECONDS - 1).waited
    assert queue.wake == START + 12 + WATCHED_SECONDS
    assert not queue.at(queue.wake).waited
    queue.waiters.unwatched(queue.lease.key, watch, queue.now)
    assert queue.at(START + 1e5).ended is None


def test_a_connection_whose_other_end_is_silent_is_cut_before_a_watch_on_it_counts() -> None:
    assert OPTIONS.keepalive_interval is not None
    assert OPTIONS.keepalive_interval + OPTIONS.keepalive_timeout < WATCHED_SECONDS


def test_a_board_that_was_told_to_who_has_gone_since_goes_to_others() -> None:
    queue, watch, another = Queue(), Watch(), Watch()
    queue.waiters.watched(queue.lease.key, watch)
    queue.release_holder(START + 10)
    queue.waiters.told(queue.lease.key, watch, START + 11)
    queue.waiters.watched(queue.lease.key, another)  # it came back, and the old connection is not cut yet
    queue.waiters.unwatched(queue.lease.key, watch, START + 40)
    assert queue.at(START + 12 + WATCHED_SECONDS).waited, "what one was told the other may not know"
    queue.waiters.unwatched(queue.lease.key, another, START + 80)
    assert "did not take it" in why(queue.at(START + 80 + WAITER_SECONDS))


def test_a_board_that_a_watch_is_too_slow_to_be_told_of_goes_to_others() -> None:
    queue, watch = Queue(), Watch()
    queue.waiters.watched(queue.lease.key, watch)
    queue.release_holder(START + 10)
    end = START + 10 + PICKUP_SECONDS + WATCHED_SECONDS
    assert queue.at(end - 1).ended is None
    assert queue.wake == end
    assert "did not take it" in why(queue.at(end))
    queue.waiters.unwatched(queue.lease.key, watch, end)


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_clock_that_is_set_does_not_matter_to_who_watches(step: float) -> None:
    queue, watch = Queue(), Watch()
    queue.waiters.watched(queue.lease.key, watch)
    queue.release_holder(START + 10)
    queue.waiters.told(queue.lease.key, watch, START + 11)
    follow_clock(queue.lab, step)
    queue.waiters.shift(step)
    assert queue.at(START + 11 + step + WATCHED_SECONDS - 1).waited
    assert not queue.at(START + 11 + step + WATCHED_SECONDS).waited
