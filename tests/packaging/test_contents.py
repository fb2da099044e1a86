"""The wheel and the sdist contain what they need, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

from tests.support.peers import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BUILD = PROJECT["tool"]["hatch"]["build"]["targets"]
DATA = {
    "*.proto",  # the interfaces, for other languages
    "*.binpb",  # their descriptors, which an exporter reports
    "*_pb2.pyi",
    "*/py.typed",
    "jumpstarter_drivers/templates/*.in",
    "jumpstarter_drivers/video/page.html",
    "jumpstarter_drivers/*/README.md",
    "jumpstarter_drivers/*/example.yaml",
    "jumpstarter_exporter/devices/shipped_profiles/*.yaml",
    "jumpstarter_udev/*.hwdb",
    "jumpstarter_udev/*.rules",
}
"""What the wheel has beside Python modules."""
METADATA = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


@cache
def checkout() -> list[str]:
    """What is in the checkout, without what git ignores; also what is new."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return listed.split("\0")[:-1]


def files(folder: str = "") -> set[str]:
    return {name for name in checkout() if name.startswith(folder) and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    [path] = built.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_has_the_packages_without_their_tests(wheel: zipfile.ZipFile) -> None:
    expected = {
        name.partition("/")[2]
        for package in BUILD["wheel"]["packages"]
        for name in files(f"{package}/")
        if not any(fnmatch(Path(name).name, pattern) for pattern in BUILD["wheel"]["exclude"])
    }
    names = set(wheel.namelist())
    info = {name for name in names if ".dist-info/" in name}
    assert {name.partition(".dist-info/")[2] for name in info} == METADATA
    assert names - info == expected
    for name in sorted(expected):
        home = name.partition("/")[0].removeprefix("jumpstarter_")
        assert wheel.read(name) == (ROOT / home / name).read_bytes(), name


def test_the_wheel_has_no_file_of_a_kind_that_is_not_meant_for_it(wheel: zipfile.ZipFile) -> None:
    data = {name for name in wheel.namelist() if not name.endswith(".py") and ".dist-info/" not in name}
    assert {name for name in data if not any(fnmatch(name, pattern) for pattern in DATA)} == set()
    assert {pattern for pattern in DATA if not any(fnmatch(name, pattern) for name in data)} == set()
    packages = {name.partition("/")[0] for name in wheel.namelist() if name.endswith(".py")}
    assert {package for package in packages if f"{package}/py.typed" not in data} == {"jumpstarter_udev"}


def test_the_wheel_says_which_libraries_and_commands_it_has(wheel: zipfile.ZipFile) -> None:
    [metadata] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    [commands] = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]
    fields = Parser().parsestr(wheel.read(metadata).decode())
    assert set(fields.get_all("Provides-Extra", [])) == set(PROJECT["project"]["optional-dependencies"])
    assert fields["Requires-Python"] == PROJECT["project"]["requires-python"]
    assert fields["License-Expression"] == "Apache-2.0"
    text = wheel.read(commands).decode()
    for name, target in PROJECT["project"]["scripts"].items():
        assert f"{name} = {target}" in text.splitlines()


def test_the_sdist_has_the_checkout(built: Path) -> None:
    [path] = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if not member.isdir()}
    left_out = tuple(f"{folder.removeprefix('/')}/" for folder in BUILD["sdist"]["exclude"])
    expected = {name for name in files() if not name.startswith(left_out)}
    links = tuple(f"{name}/" for name in checkout() if (ROOT / name).is_dir())  # an archive has their content
    assert {name for name in names - expected if not name.startswith(links)} == {"PKG-INFO"}
    assert expected - names == set()
