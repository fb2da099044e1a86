"""Where an unfinished write is noted."""

from __future__ import annotations

from pathlib import Path

import pytest

from jumpstarter_drivers.storage.incomplete_marker import marker_in_state_folder


def test_a_marker_of_a_version_before_counts_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("JUMPSTARTER_STATE_DIRECTORY", str(tmp_path / "state"))
    marker = marker_in_state_folder("dev-sda")
    assert marker.path == tmp_path / "state" / "dev-sda.incomplete"
    assert marker.read() is None
    former = tmp_path / "home/.local/state/jumpstarter/dev-sda.incomplete"
    former.parent.mkdir(parents=True)
    former.write_text("it was killed\n")
    assert marker.read() == "it was killed"
    marker.write("again")
    assert (marker.read(), former.read_text()) == ("again", "it was killed\n")
    marker.remove()
    assert marker.read() is None
    assert not former.exists()
