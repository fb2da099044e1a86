"""pip and pipx install the wheel and the sdist for every Python that is here, and its commands work.

It installs everything from the package index, which takes minutes: `make install-test`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.peers import ROOT, Environment, with_libraries

pytestmark = [
    pytest.mark.skipif("JUMPSTARTER_TEST_INSTALL" not in os.environ, reason="runs with `make install-test`"),
    pytest.mark.timeout(1200),
]
VERSIONS = ("3.11", "3.12", "3.13")
BOARD = "export:\n  rpi4:\n    type: virtual.VirtualBoard\n    config: {boot_seconds: 0}\n"
FILE = (
    "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nmetadata: {namespace: default, name: lab}\n"
)
EXTRAS = "[all]"


def ok(command: list[str | Path], folder: Path, **variables: str | Path) -> str:
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JMP_", "JUMPSTARTER_", "PYTHON"))
    }
    home = {"HOME": folder, "XDG_RUNTIME_DIR": folder, "JUMPSTARTER_DISCOVERY": "false"}
    environment = {name: str(value) for name, value in {**own, **home, **variables}.items()}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def interpreter(version: str) -> Path | None:
    """A Python of that version that can make environments: in PATH, or where pyenv has its own."""
    here = Path(sys.executable).resolve() if sys.version.startswith(f"{version}.") else None
    found = shutil.which(f"python{version}", path=f"{os.environ['PATH']}:/usr/bin:/usr/local/bin")
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    for path in (here, Path(found) if found else None, *pyenv):
        if (
            path
            and subprocess.run([path, "-c", "import ensurepip"], capture_output=True, check=False).returncode
            == 0
        ):
            return path
    return None


@pytest.fixture(params=VERSIONS)
def python(request: pytest.FixtureRequest) -> Path:
    found = interpreter(request.param)
    if found is None:
        pytest.skip(f"no Python {request.param} with venv is on this machine")
    return found


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    ok([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder], ROOT, HOME=folder)
    [path] = folder.glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """From the sdist, by pip with nothing but what pyproject.toml asks for."""
    ok([sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", sdist.parent, sdist], sdist.parent)
    [path] = sdist.parent.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def pipx() -> Environment:
    return with_libraries("pipx", ["pipx>=1.7"])


def check(commands: Path, folder: Path) -> None:
    """What a user does first."""
    assert ok([commands / "jumpstarter", "--version"], folder).startswith("jumpstarter-sbc ")
    assert "Usage: jumpstarter" in ok([commands / "jumpstarter", "--help"], folder)
    config = folder / "rpi4.yaml"
    config.write_text(FILE + BOARD)
    assert "power" in ok([commands / "jumpstarter", "devices", "--config", config], folder)
    ok([commands / "jumpstarter-exporter", "check", config], folder)
    ok([commands / "jumpstarter", "driver", "new", "lab-relay", "--kind", "power"], folder)


def test_pip_installs_the_wheel_with_all_extras(python: Path, wheel: Path, tmp_path: Path) -> None:
    ok([python, "-m", "venv", tmp_path / "venv"], tmp_path)
    pip = [tmp_path / "venv" / "bin" / "python", "-m", "pip"]
    ok([*pip, "install", "--quiet", f"{wheel}{EXTRAS}"], tmp_path)
    ok([*pip, "check"], tmp_path)
    check(tmp_path / "venv" / "bin", tmp_path)
    assert "Usage:" in ok([tmp_path / "venv" / "bin" / "jumpstarter-controller", "--help"], tmp_path)


def test_pipx_installs_the_sdist(python: Path, sdist: Path, pipx: Environment, tmp_path: Path) -> None:
    places = {
        "PIPX_HOME": tmp_path / "pipx",
        "PIPX_BIN_DIR": tmp_path / "bin",
        "PIPX_MAN_DIR": tmp_path / "man",
    }
    ok([pipx.python, "-m", "pipx", "install", "--python", python, f"{sdist}{EXTRAS}"], tmp_path, **places)
    check(tmp_path / "bin", tmp_path)
    assert "Usage:" in ok([tmp_path / "bin" / "jumpstarter-controller", "--help"], tmp_path)
