"""What `make` shows while pip installs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pexpect
import pytest

from tests.support.peers import ROOT

PROGRAM = [sys.executable, str(ROOT / "tools" / "pip_install.py")]


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Arguments that install a package which needs another, without an index."""
    for name, needs in (("tiny", "Requires-Dist: tinier\n"), ("tinier", "")):
        with zipfile.ZipFile(tmp_path / f"{name}-1-py3-none-any.whl", "w") as wheel:
            about = f"{name}-1.dist-info"
            wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n{needs}")
            wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{about}/RECORD", "")
    place = ["--target", str(tmp_path / "there")]
    return [*place, "--no-index", "--find-links", str(tmp_path), "--ignore-installed", "tiny"]


def test_a_log_has_a_line_now_and_then(words: list[str], tmp_path: Path) -> None:
    done = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, check=True)
    assert done.stdout == "  packages so far: 1, tiny-1-py3-none-any.whl\n  packages to write: 2\n"
    assert (tmp_path / "there" / "tinier-1.dist-info").is_dir()


def test_a_terminal_has_one_line_that_changes(words: list[str]) -> None:
    with pexpect.spawn(PROGRAM[0], [PROGRAM[1], *words], timeout=60, encoding="utf-8") as child:
        said = child.read()
        child.close()
    assert child.exitstatus == 0, said
    assert "\r\x1b[K  packages so far: 2, tinier-1-py3-none-any.whl\r\x1b[K" in said
    assert said.endswith("\r\x1b[K")
    assert "\n" not in said


def test_what_pip_said_is_shown_if_it_fails(words: list[str]) -> None:
    done = subprocess.run([*PROGRAM, *words, "nothing-like-it"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "No matching distribution found for nothing-like-it" in done.stderr
    assert "Looking in links" in done.stderr
