"""Every module of an extra is loaded where only the base and that extra are installed, and finds what it imports."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.house.rooms import PACKAGES
from tests.packaging.conftest import EXTRAS
from tests.support import extras
from tests.support.peers import Environment

LOAD = """
import importlib, json, sys
names, faults = json.load(sys.stdin), {}
for name in names:
    parent, _, attribute = name.rpartition(".")
    try:
        importlib.import_module(name)
    except ImportError as error:
        if not hasattr(sys.modules.get(parent), attribute):
            faults[name] = repr(error)
json.dump([faults, sorted({name.partition(".")[0] for name in sys.modules})], sys.stdout)
"""
NOT_OURS = ("jumpstarter_image.", "jumpstarter_exporter.hosting.child")
"""Not installed; and a program for an environment with Jumpstarter 0.9."""


def load(environment: Environment, names: list[str], folder: Path) -> tuple[dict[str, str], set[str]]:
    """What could not be imported, and the top-level names of all that was.

    From the checkout, whose compiled files are there. That the wheel has the same files is another test.
    """
    path = os.pathsep.join(str(package.parent) for package in PACKAGES.values())
    done = subprocess.run(
        [environment.python, "-c", LOAD],
        input=json.dumps(names),
        cwd=folder,
        env={"HOME": str(folder), "PATH": os.environ["PATH"], "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    faults, loaded = json.loads(done.stdout)
    return faults, set(loaded)


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_module_of_an_extra_is_loaded_with_that_extra_alone(
    extra: str, libraries: Environment, tmp_path: Path
) -> None:
    own = extras.libraries(extra, here=True)
    members = {name for name in extras.members()[extra] if not name.startswith(NOT_OURS)}
    importers = extras.IMPORTERS.get(extra, members)
    others = {
        name for other in EXTRAS if other not in extras.closed(extra) for name in extras.libraries(other)
    }
    others |= {*extras.libraries(extra)} - {*own}  # which are for other machines or versions of Python
    names = {
        name
        for module in importers
        for name in extras.names(module)
        if name.partition(".")[0] in own and not set(name.split(".")[1:]) & others
    }
    faults, loaded = load(libraries, sorted(members | importers | names), tmp_path)
    # The pytest plugin is loaded by a pytest that is there.
    assert {name: fault for name, fault in faults.items() if "No module named 'pytest'" not in fault} == {}
    assert own <= loaded


PROGRAM = "import sys; from {module} import main; sys.argv = ['program', *sys.argv[1:]]; main()"


@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize(
    ("module", "words", "needs"),
    [
        ("jumpstarter_client.cli", ["devices"], ""),
        ("jumpstarter_exporter.cli", ["doctor"], ""),
        ("jumpstarter_exporter.cli", ["run", "--config", "missing.yaml"], ""),
        ("jumpstarter_controller.cli", ["run", "--data", "lab", "--listen", "nowhere"], "controller"),
        ("jumpstarter_controller.cli", ["admin", "pair", "client", "ann", "--data", "lab"], "controller"),
        ("jumpstarter_controller.cli.router", ["--key", "missing"], "controller"),
    ],
)
def test_a_program_without_its_libraries_says_which_extra_has_them(
    extra: str, module: str, words: list[str], needs: str, libraries: Environment, tmp_path: Path
) -> None:
    rooms = [package.parent for package in PACKAGES.values()]
    path = os.pathsep.join(map(str, [*rooms, rooms[0].parent / "udev"]))
    for command in (["--help"], words):
        done = subprocess.run(
            [libraries.python, "-c", PROGRAM.format(module=module), *command],
            cwd=tmp_path,
            env={"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
    cure = f"is missing; pip install 'jumpstarter-sbc[{needs}]'"
    assert (cure in done.stderr) == (needs not in {"", *extras.closed(extra)}), done.stderr
