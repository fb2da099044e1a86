"""`make demo`, as whoever has just cloned the repository sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.peers import ROOT

SEEN = (
    "Starting kernel",
    "1 passed",
    "Serving leases of 127.0.0.1:",
    "lease create -l board=rpi4",
    "next in the queue, at the latest in 10 min",
    "Bob's command has switched the board on",
    "All of that worked",
)


@pytest.mark.timeout(400)
def test_the_demo_runs_from_its_first_word_to_its_last_and_leaves_nothing(tmp_path: Path) -> None:
    # What belongs to whoever runs it is neither used nor in its way.
    environment = os.environ | {"TMPDIR": str(tmp_path), "JMP_LEASE": "other", "JUMPSTARTER_HOST": "nowhere"}
    done = subprocess.run(
        [sys.executable, "-m", "tools.demo"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    at = 0
    for words in SEEN:
        at = done.stdout.find(words, at)
        assert at >= 0, f"{words!r} is missing in:\n{done.stdout}"
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
