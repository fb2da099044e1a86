"""When a board lacks hardware."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.devices.hardware import missing_hardware
from jumpstarter_exporter.devices.inventory import BoardDevices, Inventory
from jumpstarter_exporter.devices.spec import Spec
from jumpstarter_exporter.driver import Driver


class Part(Driver):
    """Something with hardware."""

    client = "example.Client"


def board(**parts: Spec) -> BoardDevices:
    return Inventory().add("board", Spec(Composite, {}, parts))


def part(*, required: bool = False, **children: Spec) -> Spec:
    return Spec(Part, {}, children, required=required)


def test_what_nobody_has_looked_for_counts_as_there() -> None:
    assert missing_hardware(board(power=part(required=True), console=part())) is None


def test_a_part_that_is_missing_keeps_nobody_from_the_others() -> None:
    devices = board(power=part(), console=part())
    devices.slots["console"].lifecycle.missing("it was unplugged")
    assert missing_hardware(devices) is None


def test_a_board_of_which_all_is_missing_lacks_it() -> None:
    devices = board(power=part(), group=Spec(Composite, {}, {"console": part()}))
    for path in ("power", "group.console"):
        devices.slots[path].lifecycle.missing("it was unplugged")
    lack = missing_hardware(devices)
    assert lack is not None
    assert lack.reason == "all of its devices are missing"
    assert [slot.path for slot in lack.slots] == ["power", "group.console"]


def test_a_board_without_devices_lacks_nothing() -> None:
    assert missing_hardware(board()) is None


def test_a_discovered_board_into_which_nothing_was_plugged_yet_is_for_no_lease() -> None:
    devices = board()
    devices.is_discovered = True
    lack = missing_hardware(devices)
    assert lack is not None
    assert (lack.slots, lack.reason) == ([], "nothing is plugged in that would belong to it")


@pytest.mark.parametrize("word", ["missing", "failed"])
def test_a_required_part_is_lacked_when_it_is_no_use(word: str) -> None:
    devices = board(power=part(), console=part(required=True))
    getattr(devices.slots["console"].lifecycle, word)("no answer")
    lack = missing_hardware(devices)
    assert lack is not None
    verb = "has failed" if word == "failed" else f"is {word}"
    assert lack.reason == f"the device console {verb}: no answer"
    assert [slot.path for slot in lack.slots] == ["console"]


def test_what_is_below_a_required_device_is_required() -> None:
    devices = board(power=part(), hub=part(required=True, port=part()))
    devices.slots["hub.port"].lifecycle.failed("no answer")
    assert missing_hardware(devices) is not None


def test_what_cannot_be_made_is_not_a_group() -> None:
    devices = board(power=part(), net=replace(Spec(Composite, {}, fault="no such type"), required=True))
    lack = missing_hardware(devices)
    assert lack is not None
    assert lack.reason == "the device net has failed: no such type"
