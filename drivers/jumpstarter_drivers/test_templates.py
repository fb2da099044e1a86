"""What `jumpstarter driver new` writes: its test passes, its types are right, and its example loads."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType

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
    assert "3 passed" in run("-m", "pytest", "-q", "-p", "no:cacheprovider", folder=folder)
    describe_installed(folder)
    program = (
        "from jumpstarter_exporter import config\n"
        "from jumpstarter_proto import driver_packages\n"
        "config.build(config.load('exporter.yaml'))\n"
        "print([package.types for package in driver_packages.installed_packages()], driver_packages.problems())"
    )
    types = {"lab-thing.LabThing": "lab_thing_driver.driver.LabThing"}
    assert run("-c", program, folder=folder) == f"{[types]} []\n"


def test_what_is_written_has_the_style_and_the_types_of_this_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for kind in KINDS:
        driver(["new", f"{kind}-device", "--kind", kind], GlobalOptions())
    sources = [str(tmp_path / f"{kind}-device" / f"{kind}_device_driver" / "driver.py") for kind in KINDS]
    ruff = Path(sys.executable).with_name("ruff")
    style = ("--isolated", "--line-length", "120", "--extend-exclude", "*_grpc.py,*_pb2.py*")
    subprocess.run([ruff, "check", *style, tmp_path], check=True)
    run(
        "-m",
        "mypy",
        "--strict",
        "--python-executable",
        sys.executable,
        "--cache-dir",
        "none",
        *sources,
        folder=tmp_path,
    )


@pytest.mark.parametrize("name", ["relay", "lab-relay-2"])
def test_what_is_written_of_the_service_is_what_protoc_writes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    driver(["new", name, "--kind", "power"], GlobalOptions())
    module = name.replace("-", "_")
    package = tmp_path / name / f"{module}_driver"
    service = {ending: package / f"{module}{ending}" for ending in (".binpb", "_grpc.py", "_pb2.pyi")}
    written = {ending: path.read_bytes() for ending, path in service.items()}
    program = "import sys; from {0}_driver.{0}_pb2 import DESCRIPTOR; print(DESCRIPTOR.serialized_pb)"
    descriptor = run("-c", program.format(module), folder=tmp_path / name)
    proto = str((package / f"{module}.proto").relative_to(tmp_path / name))
    run("-m", "jumpstarter_proto.purerpc_adapter.generate", ".", proto, folder=tmp_path / name)
    assert {ending: path.read_bytes() for ending, path in service.items()} == written
    assert run("-c", program.format(module), folder=tmp_path / name) == descriptor


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


def test_nothing_stays_of_a_package_that_does_not_fit_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, hard))
    try:
        with pytest.raises(JumpstarterError, match="relay cannot be written: File too large; go to another"):
            driver(["new", "relay", "--kind", "power"], GlobalOptions())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_nothing_stays_of_a_package_after_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def press(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name == "write_bytes" and len(list(tmp_path.rglob("*"))) > 4:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    sys.setprofile(press)
    try:
        with pytest.raises(KeyboardInterrupt):
            driver(["new", "relay", "--kind", "power"], GlobalOptions())
    finally:
        sys.setprofile(None)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_has_the_rights_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    driver(["new", "relay", "--kind", "power"], GlobalOptions())
    (tmp_path / "other").mkdir()
    assert (tmp_path / "relay").stat().st_mode == (tmp_path / "other").stat().st_mode
