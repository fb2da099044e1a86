"""What `jumpstarter driver new` writes: its test passes, its types are right, and its example loads."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from jumpstarter_client.cli.driver import KINDS, driver
from jumpstarter_client.cli.options import GlobalOptions
from jumpstarter_client.command_errors import UsageError
from jumpstarter_proto.errors import JumpstarterError

from tests.support.driver_packages import describe_installed


def run(*command: str | Path, folder: Path) -> str:
    """The output of a program that sees the new package as an installed one."""
    path = os.pathsep.join([str(folder), *sys.path])
    environment = os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory(prefix="new-") as short:  # a socket's path has at most 107 bytes
        environment |= {"PYTEST_DEBUG_TEMPROOT": short}
        done = subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_works(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert driver(["new", "lab-thing", "--kind", kind], GlobalOptions()) == 0
    folder = tmp_path / "lab-thing"
    assert "2 passed" in run("-m", "pytest", "-q", "-p", "no:cacheprovider", folder=folder)
    describe_installed(folder)
    program = (
        "from jumpstarter_exporter import config\n"
        "from jumpstarter_proto import driver_packages\n"
        "config.build(config.load('exporter.yaml'))\n"
        "print([package.types for package in driver_packages.installed_packages()], driver_packages.problems())"
    )
    types = {"lab-thing.LabThing": "lab_thing_driver.driver.LabThing"}
    assert run("-c", program, folder=folder) == f"{[types]} []\n"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_has_the_style_and_the_types_of_this_project(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    driver(["new", "relay", "--kind", kind], GlobalOptions())
    source = tmp_path / "relay" / "relay_driver" / "driver.py"
    ruff = Path(sys.executable).with_name("ruff")
    subprocess.run([ruff, "check", "--isolated", "--line-length", "120", tmp_path], check=True)
    mypy = ["-m", "mypy", "--strict", "--python-executable", sys.executable, "--cache-dir", "none", source]
    run(*map(str, mypy), folder=tmp_path / "relay")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["new", "relay"], "takes one NAME, and --kind power"),
        (["new", "relay", "--kind", "pwer"], "unknown kind 'pwer'; did you mean 'power'"),
        (["new", "--kind", "power"], "takes one NAME"),
        (["new", "../x", "--kind", "power"], "the name '../x' is invalid"),
        (["new", "Relay", "--kind", "power"], "the name 'Relay' is invalid"),
        (["new", "power", "--kind", "power"], "there is a driver package power already"),
        (["nw", "x"], "`driver` has no verb 'nw'.*new"),
    ],
)
def test_wrong_words_are_one_sentence(
    words: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=complaint):
        driver(words, GlobalOptions())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "relay").mkdir()
    with pytest.raises(JumpstarterError, match="relay exists already"):
        driver(["new", "relay", "--kind", "power"], GlobalOptions())
    assert list((tmp_path / "relay").iterdir()) == []
