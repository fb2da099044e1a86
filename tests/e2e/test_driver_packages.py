"""A driver package with its own import name, installed with pip: all that it brings works, locally and in a lease."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.lab import Lab
from tests.support import lab as support
from tests.support.driver_packages import FAN, DriverEnvironment, describe_installed, write_package

EXPORT = "export:\n  cooler:\n    type: fan.Fan\n    config: {top: 2000}\n"
FILE = (
    "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nmetadata: {namespace: default, name: lab}\n"
)
STEPS = "steps:\n  - fan.spin: 25\n  - fan.spin\n"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> DriverEnvironment:
    folder = tmp_path_factory.mktemp("fan")
    made = DriverEnvironment(folder / "venv")
    made.install(write_package(folder, "fan", FAN))
    return made


def run(environment: DriverEnvironment, folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """`jumpstarter …` of somebody who has set nothing."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("JMP_", "JUMPSTARTER_"))}
    path = f"{environment.path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [environment.path / "bin" / "jumpstarter", *words],
        cwd=folder,
        env=own | {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder), "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def ok(environment: DriverEnvironment, folder: Path, *words: str | Path) -> str:
    done = run(environment, folder, *words)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


@pytest.mark.cold
def test_on_the_machine_of_the_board(environment: DriverEnvironment, tmp_path: Path) -> None:
    config = tmp_path / "exporter.yaml"
    config.write_text(FILE + EXPORT)
    assert ok(environment, tmp_path, "fan", "spin", "--config", config) == "1000 rpm\n"
    assert ok(environment, tmp_path, "fan", "spin", "cooler", "10", "--config", config) == "200 rpm\n"
    assert "Set the speed, in percent." in ok(environment, tmp_path, "fan", "--help")
    assert "\n  fan\n" in ok(environment, tmp_path, "--help")
    assert (
        ok(environment, tmp_path, "shell", "--config", config, "--", "j", "cooler", "spin", "5")
        == "100 rpm\n"
    )
    (tmp_path / "fan.yaml").write_text(STEPS)
    assert "1 passed" in ok(environment, tmp_path, "test", "fan.yaml", "--config", config)


@pytest.fixture
def lab(warm_lab: support.Lab) -> Iterator[Lab]:
    with Lab.opened(host=warm_lab) as lab:
        yield lab


@pytest.mark.cold
def test_in_a_lease(lab: Lab, environment: DriverEnvironment) -> None:
    program = environment.path / "exporter.py"
    program.write_text("from jumpstarter_exporter.cli import main\nmain()\n")
    lab.admin("exporter", "create", "one", "--label", "board=rpi4", "--save", lab.home / "one.yaml")
    file = lab.home / "one.yaml"
    file.write_text(file.read_text().replace("export: {}\n", EXPORT))
    lab.start_exporter("one", environment.python, program, "run", "--config")
    ann = lab.client("ann")
    lease = ("-l", "board=rpi4", "--client", ann)
    assert run(environment, lab.home, "fan", "spin", "cooler", "10", *lease).stdout == "200 rpm\n"
    shell = run(environment, lab.home, "shell", *lease, "--", "j", "cooler", "spin", "5")
    assert shell.stdout == "100 rpm\n"
    (lab.home / "fan.yaml").write_text(STEPS)
    assert "1 passed" in run(environment, lab.home, "test", "fan.yaml", *lease).stdout


BROKEN = {
    "raises": "raise RuntimeError('no bus')",
    "claims": FAN["__init__.py"].replace('"fan"', '"power"'),
    "twice": FAN["__init__.py"].replace('("driver.Fan",)', '("driver.Fan", "other.Fan")'),
    "classless": FAN["__init__.py"].replace("client.FanClient", "client.FanClint"),
    "newer": FAN["__init__.py"].replace("interface=", "needs='99', interface="),
}


@pytest.mark.cold
def test_packages_that_are_wrong_are_named_and_all_else_works(tmp_path: Path) -> None:
    made = DriverEnvironment(tmp_path / "venv")
    (site,) = made.path.glob("lib/python3*/site-packages")
    for name, manifest in {**BROKEN, "fan": FAN["__init__.py"]}.items():
        source = write_package(tmp_path, name, {**FAN, "__init__.py": manifest})
        describe_installed(source)
        (site / f"{name}.pth").write_text(f"{source}\n")
    config = tmp_path / "exporter.yaml"
    config.write_text(f"{FILE}{EXPORT}  rpi4:\n    type: virtual.VirtualBoard\n")
    spun = run(made, tmp_path, "fan", "spin", "--config", config)
    assert (spun.returncode, spun.stdout) == (0, "1000 rpm\n")
    for name in BROKEN:
        assert spun.stderr.count(f"the driver package {name}_driver 1.0 is ignored: ") == 1, spun.stderr
    assert len(spun.stderr.splitlines()) == len(BROKEN)
    assert ok(made, tmp_path, "power", "--help").startswith("Usage: jumpstarter power VERB")
    assert run(made, tmp_path, "power", "on", "--config", config).returncode == 0
    assert run(made, tmp_path, "devices", "--config", config).returncode == 0
    unknown = run(made, tmp_path, "classless", "spin", "--config", config)
    assert unknown.returncode == 2
    assert "its class classless_driver.client.FanClint does not exist" in unknown.stderr
