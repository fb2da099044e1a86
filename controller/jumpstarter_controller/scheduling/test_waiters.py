"""A lease that a command waits for ends when that command is gone; all others stay."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from jumpstarter_controller.lab import Client, Exporter, ExporterStatus, Key, Lab, Lease
from jumpstarter_controller.scheduling import (
    PICKUP_SECONDS,
    WAITER_SECONDS,
    Presence,
    Scheduler,
    Waiters,
    follow_clock,
)

START = 1000.0


class Queue:
    """One exporter, held by the lease `holder`, and `waiting` behind it, which began to wait at START."""

    def __init__(self, *, waited: bool = True) -> None:
        self.now = START
        self.lab = Lab()
        self.waiters = Waiters()
        presence = Presence()
        presence.connected(Key("lab", "one"), self.now)
        self.scheduler = Scheduler(presence, self.waiters)
        status = ExporterStatus.AVAILABLE
        self.lab.put(Exporter(namespace="lab", name="one", uid="1", devices=1, status=status))
        self.lab.put(Client(namespace="lab", name="ann", uid="2"))
        for order, name in enumerate(("holder", "waiting")):
            fields = {"client": "ann", "exporter_name": "one", "duration": 1e6, "order": order}
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
