"""A clock that is set moves what lasts a time, each thing once, and nothing that has a time of day."""

from __future__ import annotations

from msgspec.structs import replace

from jumpstarter_controller.lab import Client, Draft, Key, Lease, PairingCode, Record
from jumpstarter_controller.scheduling import FutureTimestamps, follow_clock
from jumpstarter_controller.scheduling.clock_steps import TOLERANCE_SECONDS

NOW, STEP = 1000.0, 500.0
LEASE = Lease(namespace="lab", name="l", client="ann", duration=60.0, created=NOW)
RUNS = replace(LEASE, name="runs", exporter="one", begun=NOW)
TIMED = replace(RUNS, name="timed", begin_time=NOW)
ENDS = replace(TIMED, name="ends", end_time=NOW + 60)
LATER = replace(LEASE, name="later", begin_time=NOW + 900)
OFFERED = replace(LEASE, name="offered", exporter="two", offered=NOW)
OVER = replace(RUNS, name="over", ended=NOW + 1)
ANN = Client(namespace="lab", name="ann", uid="2", previous_uid="1", previous_uid_until=NOW + 10)
BOB = Client(namespace="lab", name="bob", uid="2", previous_uid_until=5.0)
CODE = PairingCode(namespace="lab", name="c", kind="Client", subject="x", digest="d", expires=NOW + 20)
ALL: tuple[Record, ...] = (LEASE, RUNS, TIMED, ENDS, LATER, OFFERED, OVER, ANN, BOB, CODE)


def lab() -> Draft:
    found = Draft()
    for record in ALL:
        found.put(record)
    found.commit()
    return found


def test_all_that_lasts_a_time_moves_with_it() -> None:
    moved = lab()
    follow_clock(moved, STEP)
    wanted: list[Record] = [
        replace(RUNS, begun=NOW + STEP),
        replace(TIMED, begun=NOW + STEP, begin_time=NOW + STEP),
        replace(ENDS, begun=NOW + STEP),
        replace(OFFERED, offered=NOW + STEP),
        replace(ANN, previous_uid_until=NOW + 10 + STEP),
        replace(CODE, expires=NOW + 20 + STEP),
    ]
    by_name = {one.name: one for one in wanted}
    for record in ALL:
        assert moved.get(type(record), record.key) == by_name.get(record.name, record), record.name


def test_what_has_moved_already_has_the_rest_to_go() -> None:
    moved = lab()
    status, spec = {((Lease, TIMED.key), True): STEP}, {((PairingCode, CODE.key), False): 100.0}
    follow_clock(moved, STEP, moved=status | spec)  # type: ignore[operator]
    assert moved.get(Lease, TIMED.key) == replace(TIMED, begin_time=NOW + STEP)
    assert moved.get(PairingCode, CODE.key) == replace(CODE, expires=NOW + 20 + STEP - 100)
    assert moved.get(Lease, RUNS.key) == replace(RUNS, begun=NOW + STEP)


def test_what_a_clock_has_written_that_was_ahead_stays_as_it_is() -> None:
    behind = NOW - 10_000
    ahead = FutureTimestamps.of(lab(), behind)
    assert ahead.newest == NOW + 1
    moved = lab()
    young = replace(RUNS, name="young", begun=behind)
    moved.put(young)
    follow_clock(moved, STEP, ahead)
    for record in (RUNS, TIMED, ENDS, ANN, CODE):
        assert moved.get(type(record), record.key) == record, record.name
    assert moved.get(Lease, young.key) == replace(young, begun=behind + STEP)
    assert ahead.at(NOW) == FutureTimestamps()
    assert ahead.at(NOW - TOLERANCE_SECONDS) is ahead
    assert FutureTimestamps.of(lab(), NOW + 1 - TOLERANCE_SECONDS) == FutureTimestamps()
    assert not ahead.has(replace(RUNS, begun=5.0), 5.0)
    assert Key("lab", "over") not in {key for _, key in ahead.times}
