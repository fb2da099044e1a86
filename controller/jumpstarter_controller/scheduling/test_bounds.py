"""What keeps decisions quick and small, and times in range."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jumpstarter_controller.lab import Client, Draft, Exporter, ExporterStatus, Key, Lease
from jumpstarter_controller.scheduling import ExporterPresence, Scheduler, TimesError, check_times
from jumpstarter_controller.scheduling.candidates import Candidates
from jumpstarter_controller.scheduling.estimate import MAX_RESERVATION_ROUNDS
from jumpstarter_controller.scheduling.lease_queue import (
    MAX_SORTED_CANDIDATES,
    ExporterPool,
    LeaseQueue,
    Reservations,
)
from jumpstarter_controller.scheduling.times import MAX_DURATION_SECONDS

NS = "lab"
NOW = 1_800_000_000.0
MANY = 500


def lease(number: int, **more: object) -> Lease:
    fields: dict[str, object] = {"selector": "board=rpi4", "duration": 60.0, "sequence": number, **more}
    return Lease(namespace=NS, name=f"l{number:04}", client="ann", created=NOW, **fields)  # type: ignore[arg-type]


class Wanted(frozenset[Key]):
    """Exporters that a lease wants, and how often it was asked whether one is among them."""

    asked = 0

    def __contains__(self, key: object) -> bool:
        self.asked += 1
        return super().__contains__(key)


class Preference:
    """By name; counts how often it is asked."""

    asked = 0

    def __call__(self, key: Key) -> Key:
        self.asked += 1
        return key


def exporters(count: int) -> list[Key]:
    return [Key(NS, f"e{number:04}") for number in range(count)]


def pool(keys: list[Key], prefer: Preference) -> ExporterPool:
    return ExporterPool(set(keys), dict.fromkeys(keys, NOW), prefer)


@pytest.mark.parametrize("few", [1, MAX_SORTED_CANDIDATES])
def test_who_wants_few_exporters_is_not_compared_with_all_that_are_free(few: int) -> None:
    keys = exporters(MANY)
    wanted = Wanted(keys[-few:])
    lease_queue = LeaseQueue([(lease(0), Candidates(((0, wanted),)))])
    grants = list(lease_queue.allocate(pool(keys, Preference()), Reservations(()), NOW))
    assert [one.exporter for one in grants] == [keys[-few]]
    assert wanted.asked <= MAX_SORTED_CANDIDATES


def test_those_who_want_many_exporters_do_not_sort_them_each() -> None:
    keys = exporters(MANY)
    prefer = Preference()
    found = Candidates(((0, frozenset(keys)),))
    lease_queue = LeaseQueue([(lease(number), found) for number in range(MANY)])
    grants = list(lease_queue.allocate(pool(keys, prefer), Reservations(()), NOW))
    assert [(one.lease.sequence, one.exporter) for one in grants] == list(enumerate(keys))
    assert prefer.asked == MANY


def test_with_boards_kept_for_later_one_looks_only_so_far_ahead() -> None:
    scheduler, lab = lab_with_one()
    for number in range(2 * MAX_RESERVATION_ROUNDS):
        lab.put(lease(number))
    scheduler.reconcile(lab, NOW)
    waiting = 2 * MAX_RESERVATION_ROUNDS - 1
    assert [one.seconds for one in scheduler.queue(lab, NOW).values()].count(None) == 0
    lab.put(lease(2 * MAX_RESERVATION_ROUNDS, begin_time=NOW + 86400.0))
    places = scheduler.queue(lab, NOW)
    known = [one.seconds for one in sorted(places.values(), key=lambda one: one.number)]
    assert len(known) == waiting
    assert known[:MAX_RESERVATION_ROUNDS] == [60.0 * (number + 1) for number in range(MAX_RESERVATION_ROUNDS)]
    assert set(known[MAX_RESERVATION_ROUNDS + 1 :]) == {None}


def lab_with_one() -> tuple[Scheduler, Draft]:
    lab, presence = Draft(), ExporterPresence()
    lab.put(Client(namespace=NS, name="ann", uid="1"))
    one = Exporter(
        namespace=NS,
        name="one",
        uid="2",
        devices=1,
        labels={"board": "rpi4"},
        status=ExporterStatus.AVAILABLE,
    )
    lab.put(one)
    presence.connected(one.key, NOW)
    return Scheduler(presence), lab


def test_what_is_remembered_of_requests_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jumpstarter_controller.scheduling.scheduler.MAX_REMEMBERED_CHOICES", 10)
    scheduler, lab = lab_with_one()
    for number in range(25):
        lab.put(lease(number, duration=60.0 + number))
        scheduler.reconcile(lab, NOW)
        assert 0 < len(scheduler._choices) <= 10


def wrong_times() -> Iterator[tuple[str, tuple[float | None, float | None, float | None]]]:
    for far in (-MAX_DURATION_SECONDS, MAX_DURATION_SECONDS):
        yield "begin_time is more than 3650 days away", (NOW + far, None, 60.0)
        yield "end_time is more than 3650 days away", (None, NOW + far, 60.0)
    yield "duration must be at most 3650 days, got 3651", (None, None, MAX_DURATION_SECONDS + 86400.0)
    yield (
        "duration must be at most 3650 days",
        (NOW - MAX_DURATION_SECONDS + 1, NOW + MAX_DURATION_SECONDS - 1, None),
    )
    yield "duration must be positive", (NOW, NOW, None)
    yield "duration conflicts", (NOW, NOW + 60.0, 60.1)
    yield "duration is required", (NOW, None, None)


@pytest.mark.parametrize(("words", "times"), list(wrong_times()))
def test_times_that_cannot_be_say_why(
    words: str, times: tuple[float | None, float | None, float | None]
) -> None:
    with pytest.raises(TimesError, match=words):
        check_times(*times, NOW)


def test_times_that_can_be_just_so() -> None:
    begin, end = NOW - MAX_DURATION_SECONDS / 2 + 1, NOW + MAX_DURATION_SECONDS / 2
    assert check_times(begin, end, None, NOW) == (begin, end, MAX_DURATION_SECONDS - 1)
    assert check_times(None, None, MAX_DURATION_SECONDS, NOW) == (None, None, MAX_DURATION_SECONDS)
    assert check_times(None, NOW + 100.0, 60.0, NOW) == (NOW + 40.0, NOW + 100.0, 60.0)
    assert check_times(NOW, NOW + 60.0005, 60.0, NOW)[2] == pytest.approx(60.0005)
