"""Temporary folders go with their owners, and those of killed ones with the next that is made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jumpstarter_proto import run_folders
from jumpstarter_proto.run_folders import OWNER, RunFolder, sweep

OWNER_PROGRAM = """
import sys
from jumpstarter_proto.run_folders import RunFolder
folder = RunFolder("jumpstarter-test-", sys.argv[1])
(folder.path / "file").write_text("something")
(folder.path / "sub").mkdir()
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(run_folders, "_swept", set())
    return str(tmp_path)


def owner(place: str) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER_PROGRAM, place],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_killed_owners_folder_goes_when_the_next_is_made_and_a_living_ones_stays(place: str) -> None:
    killed, left = owner(place)
    killed.kill()
    killed.communicate()
    assert (left / "file").exists()
    living, kept = owner(place)
    try:
        assert not left.exists(), "the next start has removed it"
        assert sweep(place) == 0
        assert (kept / "file").exists()
    finally:
        living.communicate("")
    assert sweep(place) == 1, "it ended without removing it"
    assert os.listdir(place) == []


def test_it_goes_with_its_block_and_is_private(place: str) -> None:
    with RunFolder("jumpstarter-test-", place) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "file").write_text("something")
        assert sweep(place) == 0, "it is in use"
    assert os.listdir(place) == []


def test_removing_it_again_removes_nothing_of_others(place: str) -> None:
    folder = RunFolder("jumpstarter-test-", place)
    folder.remove()
    folder.path.mkdir()
    folder.remove()
    assert folder.path.exists()


def test_what_is_not_of_this_kind_stays(place: str) -> None:
    here = Path(place)
    (here / "jumpstarter-bare").mkdir(mode=0o700)
    (here / "jumpstarter-file").touch()
    for name, mode in (("jumpstarter-open", 0o755), ("other", 0o700)):
        (here / name).mkdir(mode=mode)
        (here / name / OWNER).touch()
    (here / "target").mkdir(mode=0o700)
    (here / "target" / OWNER).touch()
    (here / "jumpstarter-link").symlink_to(here / "target")
    (here / "jumpstarter-owner-link").mkdir(mode=0o700)
    (here / "jumpstarter-owner-link" / OWNER).symlink_to(here / "target" / OWNER)
    before = sorted(os.listdir(place))
    assert sweep(place) == 0
    assert sorted(os.listdir(place)) == before


def test_a_place_that_cannot_be_looked_at_is_not_an_error(place: str) -> None:
    assert sweep(f"{place}/none") == 0


def test_place_that_was_swept_is_not_swept_again_for_each_new_folder(place: str) -> None:
    sweep(place)
    left = Path(place) / "jumpstarter-left"
    left.mkdir(0o700)
    (left / OWNER).touch()
    with RunFolder("jumpstarter-test-", place):
        assert left.exists()
    sweep(place)
    assert not left.exists()
