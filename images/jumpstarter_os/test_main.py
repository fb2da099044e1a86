"""Which of our packages an image gets."""

from __future__ import annotations

import os
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


def test_of_several_versions_the_one_that_was_made_last_and_none_if_one_is_missing(tmp_path: Path) -> None:
    assert packages(tmp_path, "amd64") is None
    for name in OURS:
        (tmp_path / f"{name}_0.1.0+deb13_amd64.deb").touch()
    older = tmp_path / f"{OURS[0]}_0.2.0+deb13_amd64.deb"
    older.touch()
    os.utime(older, (1, 1))
    found = packages(tmp_path, "amd64")
    assert found is not None
    assert [path.name for path in found] == [f"{name}_0.1.0+deb13_amd64.deb" for name in OURS]
    (tmp_path / f"{OURS[1]}_0.1.0+deb13_amd64.deb").unlink()
    assert packages(tmp_path, "amd64") is None
