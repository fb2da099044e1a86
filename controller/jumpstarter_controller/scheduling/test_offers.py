"""What becomes of an offer that nobody has answered yet."""

from __future__ import annotations

import pytest
from jumpstarter_proto.client.v1 import client_pb2
from msgspec.structs import replace

from jumpstarter_controller.lab import Client, Draft, Drain, Exporter, ExporterStatus, Key, Lease
from jumpstarter_controller.scheduling import ANSWER_SECONDS, ExporterPresence, Scheduler, follow_clock
from jumpstarter_controller.services import changes
from jumpstarter_controller.services.messages import duration_of, timestamp

NOW = 1_800_000_000.0
ANN = Client(namespace="lab", name="ann", uid="ann")
ONE = Exporter(
    namespace="lab", name="one", uid="one", devices=1, status=ExporterStatus.AVAILABLE, answers=True
)
MINE = Key("lab", "mine")


class World:
    """A lab with a lease that is offered."""

    def __init__(self) -> None:
        self.lab, self.presence = Draft(), ExporterPresence()
        self.scheduler = Scheduler(self.presence)
        self.lab.put(ANN)
        self.lab.put(ONE)
        self.presence.connected(ONE.key, NOW)
        asked = client_pb2.Lease(exporter_name="one", duration=duration_of(600))
        changes.create_lease(self.lab, NOW, ANN, "mine", asked)
        self.decide()
        assert self.lease.offered == NOW

    @property
    def lease(self) -> Lease:
        found = self.lab.get(Lease, MINE)
        assert found is not None
        return found

    @property
    def exporter(self) -> Exporter:
        found = self.lab.get(Exporter, ONE.key)
        assert found is not None
        return found

    def decide(self, after: float = 0.0) -> float | None:
        wake = self.scheduler.reconcile(self.lab, NOW + after)
        self.lab.commit()
        return wake


@pytest.fixture
def world() -> World:
    return World()


def test_a_lease_waits_again_as_soon_as_its_exporter_is_offline(world: World) -> None:
    changes.report(world.lab, ONE.key, ExporterStatus.OFFLINE, "bye")
    world.decide(1)
    assert (world.lease.exporter, world.lease.offered, world.lease.ended) == ("", None, None)
    world.lab.remove(world.exporter)
    other = replace(ONE, name="other")
    world.lab.put(other)
    world.decide(2)
    assert world.lease.ended is not None, "that exporter was the one that was asked for"


def test_a_clock_that_is_set_neither_cuts_nor_stretches_the_time_for_an_answer(world: World) -> None:
    for step in (3600.0, -7200.0):
        follow_clock(world.lab, step)
    wake = world.decide(-3600 + 1)
    assert wake == NOW - 3600 + ANSWER_SECONDS
    assert world.lease.offered == NOW - 3600


def test_who_is_silent_is_offline_and_the_lease_waits(world: World) -> None:
    world.decide(ANSWER_SECONDS - 1)
    assert world.lease.exporter == "one"
    world.decide(ANSWER_SECONDS)
    assert (world.lease.exporter, world.exporter.status) == ("", ExporterStatus.OFFLINE)


def test_a_lease_that_ends_before_it_was_taken_never_had_a_board(world: World) -> None:
    changes.release(world.lab, world.lease)
    world.decide(1)
    assert world.lease.ended is not None
    assert (world.lease.exporter, world.lease.offered, world.lease.begun) == ("", None, None)


def test_a_lease_that_is_put_off_until_later_gives_its_board_away(world: World) -> None:
    later = client_pb2.Lease(duration=duration_of(600), begin_time=timestamp(NOW + 100))
    changes.update_lease(world.lab, NOW + 1, ANN, MINE, later)
    world.decide(1)
    assert (world.lease.exporter, world.lease.begin_time) == ("", NOW + 100)
    world.decide(100)
    assert world.lease.offered == NOW + 100


def test_an_older_exporter_that_comes_back_has_taken_it(world: World) -> None:
    changes.register(world.lab, ONE.key, {}, [], answers=False)
    world.lab.put(replace(world.exporter, devices=1))
    world.decide(5)
    assert (world.lease.begun, world.lease.expiry) == (NOW + 5, NOW + 605)


def test_a_lab_that_is_drained_takes_an_offer_back_which_is_made_again_when_it_is_resumed(
    world: World,
) -> None:
    drain = Drain(namespace=Drain.KEY.namespace, name=Drain.KEY.name)
    world.lab.put(drain)
    wake = world.decide(1)
    assert (world.lease.exporter, world.lease.offered, world.lease.ended) == ("", None, None)
    assert world.scheduler.queue(world.lab, NOW + 1)[MINE].seconds is None, "nobody knows when"
    assert wake is None or wake > NOW + 1, "nothing is due"
    world.lab.remove(drain)
    world.decide(2)
    assert world.lease.offered == NOW + 2


def test_a_lab_that_is_drained_still_says_at_once_what_can_never_be(world: World) -> None:
    world.lab.put(Drain(namespace=Drain.KEY.namespace, name=Drain.KEY.name))
    asked = client_pb2.Lease(exporter_name="none", duration=duration_of(600))
    changes.create_lease(world.lab, NOW, ANN, "never", asked)
    world.decide(1)
    never = world.lab.get(Lease, Key("lab", "never"))
    assert never is not None
    assert never.ended == NOW + 1
