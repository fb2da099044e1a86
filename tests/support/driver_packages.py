"""Driver packages of somebody else, and the environment of somebody who has installed them."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

__all__ = ["FAN", "DriverEnvironment", "describe_installed", "write_package"]

FAN = {
    "__init__.py": """
from jumpstarter_proto.driver_packages import Manifest

MANIFEST = Manifest(
    package=__name__, interface="fan", types=("driver.Fan",), clients=("client.FanClient",), steps="steps"
)
""",
    "driver.py": """
from dataclasses import dataclass
from typing import ClassVar

from jumpstarter_exporter.driver import Driver, export


@dataclass(kw_only=True, eq=False)
class Fan(Driver):
    client: ClassVar[str] = "fan_driver.client.FanClient"
    interface: ClassVar[str] = "fan"
    top: int = 3000

    @export
    def spin(self, percent: float) -> int:
        return int(self.top * percent / 100)
""",
    "client.py": """
from typing import ClassVar

from jumpstarter_client.base import DriverClient
from jumpstarter_client.verb import verb


class FanClient(DriverClient):
    interface: ClassVar[str] = "fan"

    @verb
    def spin(self, percent: float = 50.0) -> str:
        '''Set the speed, in percent.'''
        return f"{self.call('spin', percent):g} rpm"
""",
    "steps.py": """
from jumpstarter_client.yamltest.steps import step


@step
async def spin(client, context, percent: float = 100.0):
    '''Set the speed.'''
    return {"rpm": await client.call_async("spin", percent)}
""",
}
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}-driver"
version = "1.0"

[project.entry-points."jumpstarter_sbc.drivers"]
{name} = "{name}_driver:MANIFEST"
"""


def write_package(folder: Path, name: str, files: dict[str, str]) -> Path:
    """The source of a pip package with these files."""
    package = folder / name / f"{name}_driver"
    package.mkdir(parents=True)
    for file, text in files.items():
        (package / file).write_text(text)
    (folder / name / "pyproject.toml").write_text(PROJECT.format(name=name))
    return folder / name


def describe_installed(folder: Path) -> None:
    """Make a source folder that is on Python's path look installed: give it the metadata that pip would write."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))


class DriverEnvironment:
    """A virtual environment that has what this one has, and what is installed into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.python = path / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", path], check=True)
        ours = sysconfig.get_paths()["purelib"]
        site = Path(sysconfig.get_path("purelib", vars={"base": str(path), "platbase": str(path)}))
        # Also what this one has in .pth files: our own sources.
        (site / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
        for name, function in (("jumpstarter", "main"), ("j", "j")):
            script = path / "bin" / name
            script.write_text(
                f"#!{self.python}\nfrom jumpstarter_client.cli import {function}\n{function}()\n"
            )
            script.chmod(0o755)

    def install(self, source: Path) -> None:
        """`pip install`, without a network."""
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "--quiet", "--no-index"]
        command = [*pip, "--no-build-isolation", "--no-deps", "--disable-pip-version-check", str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
        assert done.returncode == 0, done.stdout + done.stderr
