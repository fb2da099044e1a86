"""`make demo`, as in a new clone of the repository. It runs in this process, so that its programs start quickly."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.support.peers import ROOT
from tools.demo.__main__ import main
from tools.mocked_host.bus import is_possible

PLUGGED = (
    (
        "no such board yet",
        "login:",
        "unplugged at",
        "ready",
        "login:",
        "ft232r-a50285bj.serial is missing: unplugged at",
    )
    if is_possible()
    else ("umockdev is not installed",)
)
SEEN = (
    "Starting kernel",
    "1 passed",
    "Serving leases of 127.0.0.1:",
    "lease create -l board=rpi4",
    "next in the queue, at the latest in 10 min",
    "Bob's command has switched the board on",
    *PLUGGED,
    "No lease is left",
    "All of that worked",
)


@pytest.mark.timeout(400)
@pytest.mark.clock_rate(4)  # its boards take seconds to boot
def test_the_demo_runs_from_its_first_word_to_its_last_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = dict(os.environ)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(ROOT)
    try:
        # The user's own configuration is not used, and does not disturb the demo.
        os.environ |= {"TMPDIR": str(tmp_path), "JMP_LEASE": "other", "JUMPSTARTER_HOST": "nowhere"}
        main([])
    finally:
        os.environ.clear()
        os.environ.update(before)
        out, err = capfd.readouterr()
        print(out, err)
    at = 0
    for words in SEEN:
        at = out.find(words, at)
        assert at >= 0, f"{words!r} is missing"
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
