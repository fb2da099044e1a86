"""What apt and dpkg say is read, and what speaks against an update."""

from __future__ import annotations

import pytest
from jumpstarter_exporter.boards.events import ServedLease, ServingPhase, WithheldReason
from jumpstarter_exporter.boards.occupancy import Occupancy
from jumpstarter_proto.errors import ExitCode

from jumpstarter_image.update_plan import (
    SPARE_BYTES,
    Deb,
    busy_boards,
    drainable_boards,
    objection_to_files,
    objection_to_room,
    objection_to_simulation,
    objection_to_way_back,
    parse_deb,
    parse_simulation,
)
from jumpstarter_image.update_record import PackageChange

SAID = """\
NOTE: This is only a simulation!
Reading package lists...
Remv old-name [1.0]
Inst libfoo:arm64 (1.2-3 Debian:13.1/stable [arm64])
Inst jumpstarter-exporter [0.1.0~git1+deb13] (1:0.2.0+deb13 local-deb [amd64])
Conf jumpstarter-exporter (1:0.2.0+deb13 local-deb [amd64])
"""


def deb(name: str, version: str = "1") -> Deb:
    return Deb(f"/tmp/{name}.deb", name, version, "amd64", 100)


def test_apts_simulation_is_read() -> None:
    found = parse_simulation(SAID)
    assert found.installed == (
        PackageChange("libfoo", "1.2-3"),
        PackageChange("jumpstarter-exporter", "1:0.2.0+deb13", "0.1.0~git1+deb13"),
    )
    assert found.removed == ("old-name",)


@pytest.mark.parametrize(
    "said",
    ["", "ab\t1\tamd64", "ab\t1\tamd64\tx", "../a\t1\tamd64\t1", "ab\t1/2\tamd64\t1", "ab\t\tamd64\t1"],
)
def test_what_is_not_a_package_is_none(said: str) -> None:
    assert parse_deb("x.deb", said) is None


def test_a_package_has_its_usual_file_name() -> None:
    found = parse_deb("x.deb", "ab\t1:2~3\tamd64\t5\n")
    assert found is not None
    assert (found.file_name, found.installed_bytes) == ("ab_2~3_amd64.deb", 5 * 1024)


@pytest.mark.parametrize("name", ["linux-image-arm64", "linux-image-7.1.2-arm64", "raspi-firmware"])
def test_what_the_host_starts_from_is_refused_however_it_would_come(name: str) -> None:
    found = objection_to_files([deb(name)], [])
    assert found is not None
    assert "only a new image replaces" in found.sentence
    found = objection_to_simulation(parse_simulation(f"Inst {name} [1] (2 x [arm64])\n"))
    assert found is not None
    assert f"apt-mark hold {name}" in found.sentence


def test_older_ones_and_two_of_one_are_refused() -> None:
    assert objection_to_files([deb("a"), deb("b")], []) is None
    found = objection_to_files([deb("a"), deb("a")], [])
    assert found is not None
    assert (found.code, "2 files of a") == (ExitCode.USAGE, "2 files of a")
    found = objection_to_files([deb("a")], [(deb("a"), "2")])
    assert found is not None
    assert "a 2 is installed, which is newer than 1" in found.sentence


def test_nothing_is_removed() -> None:
    found = objection_to_simulation(parse_simulation(SAID))
    assert found is not None
    assert "would remove old-name" in found.sentence
    assert objection_to_simulation(parse_simulation("")) is None


def test_a_version_that_could_not_be_taken_back_is_named() -> None:
    assert (
        objection_to_way_back([PackageChange("new", "1"), PackageChange("a", "2", "1", "/kept/a.deb")])
        is None
    )
    found = objection_to_way_back([PackageChange("a", "2", "1")])
    assert found is not None
    assert "no file of a 1 is kept" in found.sentence


def test_room_is_counted_with_some_to_spare() -> None:
    assert objection_to_room("the root", 100, 100 + SPARE_BYTES) is None
    found = objection_to_room("the root", 100, 99 + SPARE_BYTES)
    assert found is not None
    assert found.sentence == "the root has 16 MB free, and the update needs 17 MB; nothing was touched"


def test_what_the_exporter_says_of_a_boards_use_is_understood() -> None:
    """The sentences are those of the exporter itself."""
    free, leased, local, drained = (Occupancy() for _ in range(4))
    leased.assigned(ServedLease("lease-1", "ann"), 0.0)
    leased.became(ServingPhase.LEASED)
    local.local_call(object(), "bob", 0.0)
    drained.withhold(WithheldReason.DRAINED, "by root")
    both = Occupancy()
    both.withhold(WithheldReason.HARDWARE, "power is missing")
    both.withhold(WithheldReason.DRAINED, "")
    boards = [
        (name, board.sentence)
        for name, board in (("f", free), ("l", leased), ("u", local), ("d", drained), ("b", both))
    ]
    assert [line.split()[0] for line in busy_boards(boards)] == ["l", "u"]
    assert drainable_boards(boards) == ("f", "l", "u")
