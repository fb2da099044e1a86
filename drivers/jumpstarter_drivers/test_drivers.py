"""The page about drivers, and the package that they are found in, are as they say."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from jumpstarter_client.node import import_client
from jumpstarter_client.verb import verbs
from jumpstarter_exporter.driver import Driver

import jumpstarter_drivers

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "drivers.md"
FOLDERS = sorted(path.parent.name for path in HERE.glob("*/__init__.py"))
ROW = re.compile(
    r"^\| \[(\w+)\]\(\.\./drivers/jumpstarter_drivers/(\w+)/README\.md\) \| [^|]+ \| ([^|]*) \| ([^|]*) ?\|$",
    re.MULTILINE,
)
ROWS = {name: (folder, types, words) for name, folder, types, words in ROW.findall(PAGE.read_text())}


def test_page_has_every_folder() -> None:
    assert sorted(ROWS) == FOLDERS
    assert all(name == folder for name, (folder, _, _) in ROWS.items())


@pytest.mark.parametrize("name", FOLDERS)
def test_page_has_every_type(name: str) -> None:
    module = importlib.import_module(f"jumpstarter_drivers.{name}.driver")
    shown = set(re.findall(r"`(\w+)`", ROWS[name][1]))
    drivers = {key for key in module.__all__ if issubclass(getattr(module, key), Driver)}
    abstract = {key for key in drivers if getattr(getattr(module, key), "__abstractmethods__", None)}
    assert shown == drivers - abstract


@pytest.mark.parametrize("name", FOLDERS)
def test_page_has_every_verb(name: str) -> None:
    manifest = importlib.import_module(f"jumpstarter_drivers.{name}").MANIFEST
    shown = re.findall(r"`([^`]*)`", ROWS[name][2])
    if not manifest.clients:
        return
    first = import_client(manifest.path(manifest.clients[0]))
    assert set(" ".join(shown).split()) == set(verbs(first))


def test_folders_of_other_places_join(tmp_path: Path) -> None:
    folder = tmp_path / "jumpstarter_drivers" / "elsewhere"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text('INTERFACE = "elsewhere"\n')
    program = "import jumpstarter_drivers.elsewhere, jumpstarter_drivers.power; print('found')"
    found = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "found\n"


def test_folders_are_modules_of_the_package() -> None:
    assert set(FOLDERS) <= {module.name for module in pkgutil.iter_modules(jumpstarter_drivers.__path__)}


def test_what_folders_have_is_found_without_reading_entry_points() -> None:
    """Users wait for it: there may be hundreds of installed packages."""
    program = (
        "import sys\n"
        "from jumpstarter_client.cli.verbs import client_class\n"
        "from jumpstarter_client.node import Allowed\n"
        "from jumpstarter_proto import driver_packages\n"
        "client_class('power')\n"
        "Allowed().find('jumpstarter_driver_power.client.PowerClient')\n"
        "print(driver_packages.installed_packages.cache_info().misses, 'importlib.metadata' in sys.modules)\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "0 False\n"
