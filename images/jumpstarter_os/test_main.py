"""Which of our packages an image gets."""

from __future__ import annotations

from pathlib import Path

from jumpstarter_os.__main__ import packages
from jumpstarter_os.recipe import OURS


def test_one_of_each_of_the_right_kind(tmp_path: Path) -> None:
    for name in OURS:
        for end in ("+deb13_amd64", "+deb13_arm64", "+deb12_amd64"):
            (tmp_path / f"{name}_0.1.0{end}.deb").touch()
    found = packages(tmp_path, "amd64")
    assert found is not None
    assert [path.name for path in found] == [f"{name}_0.1.0+deb13_amd64.deb" for name in OURS]


def test_none_if_one_is_missing_or_there_are_two_versions(tmp_path: Path) -> None:
    assert packages(tmp_path, "amd64") is None
    for name in OURS:
        (tmp_path / f"{name}_0.1.0+deb13_amd64.deb").touch()
    (tmp_path / f"{OURS[0]}_0.2.0+deb13_amd64.deb").touch()
    assert packages(tmp_path, "amd64") is None
