"""Each room has what a reader and the loader expect to find in it."""

from __future__ import annotations

import importlib
import inspect
import re
import tomllib
from pathlib import Path

import pytest
from jumpstarter_proto.driver_packages import GROUP, Manifest

from tests.house.rooms import Module, all_modules, driver_folders
from tests.support.peers import ROOT

FOLDERS = driver_folders()
drivers = pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])


def test_every_module_says_why_it_exists() -> None:
    written = [m for m in all_modules() if not m.path.name.endswith("_pb2.py") and not m.is_test]
    begins = re.compile(r'(\s|#.*\n)*r?"""\S')
    assert [module.name for module in written if not begins.match(module.text)] == []


def test_no_file_is_longer_than_800_lines() -> None:
    tests = [Module(path, path.stem) for path in (ROOT / "tests").rglob("*.py")]
    written = [module for module in [*all_modules(), *tests] if not module.is_generated]
    lengths = {str(m.path.relative_to(ROOT)): m.path.read_text().count("\n") for m in written}
    assert {name: length for name, length in lengths.items() if length > 800} == {}


def test_there_are_drivers() -> None:
    assert {"power", "serial", "network", "storage"} <= {folder.name for folder in FOLDERS}


@drivers
def test_driver_folder_is_complete(folder: Path) -> None:
    wanted = {"driver.py", "README.md", "example.yaml"}
    if manifest(folder).clients:
        wanted.add("client.py")
    assert wanted - {path.name for path in folder.iterdir()} == set()
    assert list(folder.glob("test_*.py")), "no test"


@drivers
def test_manifest_loads_nothing_and_names_what_exists(folder: Path) -> None:
    name = f"jumpstarter_drivers.{folder.name}"
    allowed = {"jumpstarter_proto.driver_packages", "jumpstarter_proto.driver_packages.Manifest"}
    assert Module(folder / "__init__.py", name).imports() <= allowed
    told = manifest(folder)
    assert told.package == name
    assert all(path.count(".") >= 2 for path in [*told.type_aliases, *told.client_aliases])
    assert (told.steps == "steps") is (folder / "steps.py").exists()
    for path in [*told.types, *told.clients, *told.type_aliases.values(), *told.client_aliases.values()]:
        module, _, cls = told.path(path).rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), cls), type)


@drivers
def test_manifest_has_every_driver(folder: Path) -> None:
    base = importlib.import_module("jumpstarter_exporter").Driver
    module = importlib.import_module(f"jumpstarter_drivers.{folder.name}.driver")
    offered = {name: getattr(module, name) for name in module.__all__}
    kinds = {name for name, cls in offered.items() if issubclass(cls, base) and not inspect.isabstract(cls)}
    assert set(manifest(folder).types) == {f"driver.{name}" for name in kinds}


@drivers
def test_every_drivers_client_label_has_a_client(folder: Path) -> None:
    """Our users need a class of ours, 0.9.0's users one of theirs, behind each label that we report."""
    labels = {label for other in FOLDERS for label in manifest(other).client_aliases}
    base = importlib.import_module("jumpstarter_exporter").Driver
    module = importlib.import_module(f"jumpstarter_drivers.{folder.name}.driver")
    classes = [cls for cls in vars(module).values() if isinstance(cls, type) and issubclass(cls, base)]
    own = [cls for cls in classes if cls.__module__ == module.__name__ and getattr(cls, "client", "")]
    assert {cls.__name__: cls.client for cls in own if cls.client not in labels} == {}


@drivers
def test_example_loads(folder: Path) -> None:
    config = importlib.import_module("jumpstarter_exporter.config")
    config.build(config.load(folder / "example.yaml"))


def manifest(folder: Path) -> Manifest:
    found: Manifest = importlib.import_module(f"jumpstarter_drivers.{folder.name}").MANIFEST
    return found


def test_our_drivers_are_entry_points_as_anybodys_are() -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][GROUP]
    assert points == {folder.name: f"jumpstarter_drivers.{folder.name}:MANIFEST" for folder in FOLDERS}
