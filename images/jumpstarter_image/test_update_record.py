"""The steps of an update, in any order of ends, failures and starts of the host."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_image.update_record import (
    MAX_RESTARTS,
    NEXT,
    Ending,
    Event,
    PackageChange,
    UpdateRecord,
    UpdateStep,
    update_lines,
)

CHANGE = PackageChange("jumpstarter-exporter", after="2", before="1", back="/kept/1.deb")
NEW = UpdateRecord(boot="a", changes=(CHANGE,), files=("2.deb",))
EVENTS = st.lists(st.sampled_from(Event), max_size=40)


def at(step: UpdateStep) -> UpdateRecord:
    return UpdateRecord(boot="a", changes=(CHANGE,), files=("2.deb",), step=step)


def run(events: list[Event]) -> list[UpdateRecord]:
    """All records, until it is over."""
    records = [NEW]
    for number, event in enumerate(events):
        if records[-1].is_over:
            break
        if event is Event.RESTARTED:
            records.append(records[-1].restarted(f"boot {number}"))
        else:
            records.append(records[-1].after(event, "why" if event is Event.FAILED else ""))
    return records


def test_every_step_says_what_follows_each_event() -> None:
    live = [step for step in UpdateStep if step is not UpdateStep.ENDED]
    assert {(step, event) for step in live for event in Event} <= NEXT.keys()


@given(EVENTS)
def test_the_new_version_stays_only_if_it_was_ready_and_the_old_one_only_if_it_was(
    events: list[Event],
) -> None:
    records = run(events)
    last = records[-1]
    if last.ending is Ending.INSTALLED:
        assert records[-2].step is UpdateStep.CHECKING
    if last.ending is Ending.TAKEN_BACK:
        assert records[-2].step is UpdateStep.CHECKING_BACK
        assert last.reason
    if last.ending is Ending.UNTOUCHED:
        assert [record.step for record in records[:-1]] == [UpdateStep.STAGED]
    if last.ending is Ending.STUCK:
        assert last.reason
        assert last.trouble
    assert (last.ending is not None) is last.is_over


@given(EVENTS)
def test_a_step_is_never_gone_back_to(events: list[Event]) -> None:
    order = list(UpdateStep)
    places = [order.index(record.step) for record in run(events)]
    assert places == sorted(places)


@given(EVENTS)
def test_a_person_reads_one_line_of_each_record(events: list[Event]) -> None:
    for record in run(events):
        [line] = update_lines(record)
        assert line.endswith(".")
        assert line.startswith("Problem:") is (record.ending in (Ending.TAKEN_BACK, Ending.STUCK))


@pytest.mark.parametrize("step", [UpdateStep.INSTALLING, UpdateStep.CHECKING])
def test_a_version_in_whose_middle_the_host_starts_again_and_again_is_taken_back(step: UpdateStep) -> None:
    record = at(step)
    for number in range(MAX_RESTARTS):
        record = record.restarted(f"boot {number}")
        assert record.step is step
    record = record.restarted("one more")
    assert record.step is UpdateStep.TAKING_BACK
    assert "2 times in the middle" in record.reason


@pytest.mark.parametrize("step", [UpdateStep.TAKING_BACK, UpdateStep.CHECKING_BACK])
def test_to_take_back_is_tried_at_each_start(step: UpdateStep) -> None:
    record = at(step)
    for number in range(9):
        record = record.restarted(f"boot {number}")
    assert record.step is step


def test_the_same_boot_is_not_a_new_start() -> None:
    assert NEW.restarted("a") is NEW
    assert NEW.restarted("b").ending is Ending.UNTOUCHED


def test_an_end_is_said_with_what_to_do() -> None:
    record = at(UpdateStep.CHECKING).after(Event.FAILED, "it ends").after(Event.DONE).after(Event.DONE)
    [line] = update_lines(record)
    assert line.startswith(
        "Problem: the update to jumpstarter-exporter 2 in place of 1 was taken back: it ends; "
    )
    assert line.endswith("`sudo journalctl -u jumpstarter-image-update` says more.")
    mixed = msgspec.structs.replace(
        at(UpdateStep.CHECKING), changes=(CHANGE, PackageChange("libfoo", "2", "1"))
    )
    [line] = update_lines(mixed.after(Event.FAILED, "it ends").after(Event.DONE).after(Event.DONE))
    assert "what it has of libfoo stays, as no version before is kept" in line
    many = UpdateRecord(boot="a", changes=(CHANGE,) * 6, files=())
    assert "and 2 packages more" in update_lines(many)[0]
    stuck = UpdateRecord(
        boot="a",
        changes=(CHANGE,),
        files=(),
        step=UpdateStep.ENDED,
        ending=Ending.STUCK,
        reason="x",
        trouble="y",
        drained=("rpi4",),
    )
    assert update_lines(stuck)[0].endswith("sudo jumpstarter-exporter resume rpi4.")
