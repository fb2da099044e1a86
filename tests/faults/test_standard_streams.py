"""Every program ends in words when its standard streams are closed, full, or not read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = ["jumpstarter", "jumpstarter-exporter", "jumpstarter-controller", "jumpstarter-router"]


@pytest.mark.parametrize("how", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "| true", "> /dev/full"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_help_without_its_streams_is_no_traceback(program: str, how: str) -> None:
    path = Path(sys.executable).parent / program
    done = subprocess.run(
        ["/bin/bash", "-c", f"set -o pipefail; {path} --help {how}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if "full" in how:
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
    elif "|" in how:
        assert done.returncode in (0, 1)  # rich, which prints the help, ends with 1 when nobody reads it
    else:
        assert done.returncode == 0
