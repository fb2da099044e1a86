"""Each room has what a reader and the loader expect to find in it."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

from tests.house.rooms import Module, all_modules, driver_folders
from tests.support.peers import ROOT

FOLDERS = driver_folders()
drivers = pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])


def test_every_module_says_why_it_exists() -> None:
    written = [module for module in all_modules() if not module.path.name.endswith("_pb2.py")]
    assert [module.name for module in written if not ast.get_docstring(module.tree)] == []


def test_no_file_is_longer_than_800_lines() -> None:
    tests = [Module(path, path.stem) for path in (ROOT / "tests").rglob("*.py")]
    written = [module for module in [*all_modules(), *tests] if not module.is_generated]
    lengths = {str(m.path.relative_to(ROOT)): m.path.read_text().count("\n") for m in written}
    assert {name: length for name, length in lengths.items() if length > 800} == {}


def test_there_are_drivers() -> None:
    assert {"power", "serial", "network", "storage"} <= {folder.name for folder in FOLDERS}


@drivers
def test_driver_folder_is_complete(folder: Path) -> None:
    missing = [
        name
        for name in ("driver.py", "client.py", "README.md", "example.yaml")
        if not (folder / name).exists()
    ]
    assert missing == []
    assert list(folder.glob("test_*.py")), "no test"


@drivers
def test_manifest_imports_nothing_and_names_what_exists(folder: Path) -> None:
    name = f"jumpstarter_drivers.{folder.name}"
    assert Module(folder / "__init__.py", name).imports() <= {"__future__", "__future__.annotations"}
    manifest = importlib.import_module(name)
    assert isinstance(manifest.INTERFACE, str)
    assert manifest.INTERFACE
    assert all(path.count(".") >= 2 for path in [*manifest.DRIVERS, *manifest.CLIENTS])
    for side, classes in (("driver", manifest.DRIVERS), ("client", manifest.CLIENTS)):
        module = importlib.import_module(f"{name}.{side}")
        assert [cls for cls in classes.values() if not isinstance(getattr(module, cls, None), type)] == []


@drivers
def test_drivers_client_label_is_one_that_some_client_answers_to(folder: Path) -> None:
    labels = {
        label
        for other in FOLDERS
        for label in importlib.import_module(f"jumpstarter_drivers.{other.name}").CLIENTS
    }
    manifest = importlib.import_module(f"jumpstarter_drivers.{folder.name}")
    module = importlib.import_module(f"jumpstarter_drivers.{folder.name}.driver")
    unknown = {cls: getattr(module, cls).client for cls in manifest.DRIVERS.values()}
    assert {cls: label for cls, label in unknown.items() if label not in labels} == {}


@drivers
def test_example_loads(folder: Path) -> None:
    config = importlib.import_module("jumpstarter_exporter.config")
    config.build(config.load(folder / "example.yaml"))
