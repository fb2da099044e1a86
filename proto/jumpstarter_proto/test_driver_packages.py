"""Driver packages are found by folder and entry point; a wrong one is named in one sentence and breaks nothing else."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from jumpstarter_proto import driver_packages
from jumpstarter_proto.driver_packages import Manifest, ManifestError

GOOD = """
from jumpstarter_proto.driver_packages import Manifest
MANIFEST = Manifest(package=__name__, interface="fan", types=("driver.Fan",), clients=("client.FanClient",))
"""


def clear() -> None:
    for function in vars(driver_packages).values():
        getattr(function, "cache_clear", lambda: None)()
    driver_packages._problems.clear()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory on Python's path, into which packages are installed."""
    monkeypatch.syspath_prepend(tmp_path)
    clear()
    yield tmp_path
    clear()


def install(
    site: Path,
    name: str,
    manifest: str = GOOD,
    *,
    entry: str = "",
    driver: str = "class Fan: ...",
    **files: str,
) -> None:
    """A package `NAME_x` of the distribution `NAME-x`, with an entry point of its name."""
    package = site / f"{name}_x"
    package.mkdir()
    (package / "__init__.py").write_text(manifest)
    for file, text in {"driver": driver, "client": "class FanClient: ...", **files}.items():
        (package / f"{file}.py").write_text(text)
    info = site / f"{name}_x-1.0.dist-info"
    info.mkdir()
    entry = entry or f"{name} = {name}_x:MANIFEST"
    (info / "entry_points.txt").write_text(
        f"[console_scripts]\nx = y:z\n\n[{driver_packages.GROUP}]\n{entry}\n"
    )


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Path]:
    """A lab's own directory of driver folders."""
    path = tmp_path / "jumpstarter_drivers"
    path.mkdir()
    drivers = importlib.import_module("jumpstarter_drivers")
    drivers.__path__.append(str(path))
    yield path
    drivers.__path__.remove(str(path))


def write_folder(lab: Path, manifest: str, driver: str) -> str:
    """A folder with a name that no other test has imported."""
    name = f"fan{uuid4().hex}"
    (lab / name).mkdir()
    (lab / name / "__init__.py").write_text(manifest)
    (lab / name / "driver.py").write_text(driver)
    (lab / name / "client.py").touch()
    importlib.invalidate_caches()
    return name


def test_a_package_is_found_by_its_entry_point(site: Path) -> None:
    install(site, "fan")
    [package] = driver_packages.installed_packages()
    assert (package.name, package.types) == ("fan", {"fan.Fan": "fan_x.driver.Fan"})
    assert package.clients == {"fan_x.client.FanClient": "fan_x.client.FanClient"}
    assert package in driver_packages.all_packages()
    assert driver_packages.problems() == []


def test_of_a_distribution_the_first_on_the_path_counts(
    site: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = tmp_path_factory.mktemp("later")
    install(site, "fan")
    install(later, "fan", entry="old = old_x:MANIFEST")
    monkeypatch.setattr("sys.path", [*sys.path, str(later)])
    assert [package.name for package in driver_packages.installed_packages()] == ["fan"]


MANIFEST = (
    "from jumpstarter_proto.driver_packages import Manifest\nMANIFEST = Manifest(package=__name__, {})\n"
)
WRONG = {
    "raises": ("raise RuntimeError('no bus\\nhere')", r"raises_x cannot be imported \(no bus\)"),
    "exits": ("raise SystemExit(3)", r"exits_x cannot be imported \(3\)"),
    "syntax": ("def", "syntax_x cannot be imported"),
    "twice": (
        MANIFEST.format("interface='fan', types=('driver.Fan', 'other.Fan')"),
        "it names Fan twice in types",
    ),
    "claims": (
        MANIFEST.format("interface='power', clients=('client.FanClient',)"),
        "it claims the interface power, which another package has",
    ),
    "noclient": (
        MANIFEST.format("interface='fan', clients=('client.FanClint',)"),
        "its class noclient_x.client.FanClint does not exist",
    ),
    "nomodule": (
        MANIFEST.format("interface='fan', clients=('users.FanClient',)"),
        "its module nomodule_x.users does not exist",
    ),
    "nosteps": (
        MANIFEST.format("interface='fan', steps='steps'"),
        "its module nosteps_x.steps does not exist",
    ),
    "newer": (
        MANIFEST.format("interface='fan', needs='99.1'"),
        r"it needs jumpstarter-sbc 99.1, and \S+ is installed",
    ),
    "other": ("MANIFEST = {'interface': 'fan'}", "other_x:MANIFEST is not a Manifest"),
    "none": ("", "none_x:MANIFEST is not a Manifest"),
    "words": (MANIFEST.format("interface='Fan; rm'"), "its interface is 'Fan; rm', which is not a word"),
    "lines": (
        MANIFEST.format(r"interface='fan', summary='a fan\n  power'"),
        "its summary is .*, which is not one line of text",
    ),
    "text": (MANIFEST.format("interface='fan', types='driver.Fan'"), "its types are not a tuple of names"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_package_is_named_in_one_sentence_and_the_others_work(
    site: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    manifest, complaint = WRONG[name]
    install(site, name, manifest)
    install(site, "zfan")
    own = {package.name for package in driver_packages.folder_packages()}
    assert {package.name for package in driver_packages.all_packages()} == {*own, "zfan"}
    [sentence] = driver_packages.problems()
    assert sentence.startswith(f"the driver package {name}_x 1.0 is ignored: ")
    assert re.search(complaint, sentence), sentence
    assert "\n" not in sentence
    for _ in range(2):
        driver_packages.report_problems()
    assert [record.getMessage() for record in caplog.records] == [sentence]


@pytest.mark.parametrize(
    "entry", ["power = fan_x:MANIFEST", "Fan = fan_x:MANIFEST", "fan = fan_x", "fan = ../x:M"]
)
def test_an_entry_point_that_is_wrong_is_named(site: Path, entry: str) -> None:
    install(site, "fan", entry=entry)
    assert driver_packages.installed_packages() == ()
    assert len(driver_packages.problems()) == 1


def test_an_entry_point_of_a_folder_is_that_folder(site: Path) -> None:
    """As ours are, where this project itself is installed."""
    install(site, "ours", entry="power = jumpstarter_drivers.power:MANIFEST")
    assert driver_packages.installed_packages() == ()
    assert driver_packages.problems() == []


def test_of_two_packages_with_one_name_the_first_one_counts(site: Path) -> None:
    install(site, "afan")
    install(site, "fan", entry="zfan = fan_x:MANIFEST")
    assert [package.name for package in driver_packages.installed_packages()] == ["afan"]
    assert "fan_x 1.0 is ignored: it claims the interface fan" in driver_packages.problems()[0]


def test_a_package_may_use_an_interface_of_another(site: Path) -> None:
    install(site, "relay", MANIFEST.format("interface='power', types=('driver.Fan',)"))
    [package] = driver_packages.installed_packages()
    assert package.types == {"relay.Fan": "relay_x.driver.Fan"}


def test_a_folder_of_a_lab_works_with_constants_and_a_broken_one_is_named(site: Path) -> None:
    lab = site / "jumpstarter_drivers"
    for name, manifest in {
        "thermometer": 'INTERFACE = "thermometer"\nCLIENTS = {"lab.Client": "Client"}\n',
        "wrong": "1 / 0",
        "kinds": 'INTERFACE = "kinds"\nCLIENTS = 5\n',
    }.items():
        (lab / name).mkdir(parents=True)
        (lab / name / "__init__.py").write_text(manifest)
        (lab / name / "client.py").write_text("class Client: ...")
        (lab / name / "driver.py").write_text('__all__ = ["Thermometer"]\nclass Thermometer: ...')
    drivers = importlib.import_module("jumpstarter_drivers")
    drivers.__path__.append(str(lab))
    try:
        found = {package.name: package for package in driver_packages.folder_packages()}
    finally:
        drivers.__path__.remove(str(lab))
    assert found["thermometer"].types == {
        "thermometer.Thermometer": "jumpstarter_drivers.thermometer.driver.Thermometer"
    }
    assert found["thermometer"].clients["lab.Client"] == "jumpstarter_drivers.thermometer.client.Client"
    assert "power" in found
    assert [text.partition(":")[0] for text in driver_packages.problems()] == [
        "the driver folder kinds is ignored",
        "the driver folder wrong is ignored",
    ]


FAN_FOLDER = 'INTERFACE = "fan"\n'
REFUSING = """
INTERFACE = "fan"
def __getattr__(name):
    raise RuntimeError("no bus\\nhere")
"""


@pytest.mark.parametrize(
    ("manifest", "driver", "complaint"),
    [
        (REFUSING, "", "it cannot be read (no bus)"),
        (FAN_FOLDER, "__all__ = [*BASE]", "driver cannot be imported (name 'BASE' is not defined)"),
        (FAN_FOLDER, "__all__ = 5", "its constants are not those of a driver folder"),
        (
            FAN_FOLDER + "class Clients(dict):\n def values(self): 1 / 0\nCLIENTS = Clients(a=1)",
            "",
            "division",
        ),
    ],
)
def test_a_folder_that_cannot_be_read_is_named_and_the_others_work(
    site: Path, lab: Path, manifest: str, driver: str, complaint: str
) -> None:
    own = {package.name for package in driver_packages.folder_packages()}
    clear()
    name = write_folder(lab, manifest, driver)
    assert {package.name for package in driver_packages.folder_packages()} == own
    [sentence] = driver_packages.problems()
    assert sentence.startswith(f"the driver folder {name} is ignored: ")
    assert complaint in sentence


@pytest.mark.parametrize(
    ("manifest", "complaint"),
    [
        (MANIFEST.format("interface='fan', needs='99.1'"), "it needs jumpstarter-sbc 99.1, and "),
        (MANIFEST.format("interface='fan', types=('driver.Fin',)"), ".driver.Fin does not exist"),
        (MANIFEST.format("interface='fan', client_aliases={'a': 'client.No'}"), ".client.No does not exist"),
        ('INTERFACE = "fan"\nCLIENTS = {"lab.Fan": "FanClient"}\n', ".client.FanClient does not exist"),
        (
            MANIFEST.format("interface='power', types=('driver.Fan',), steps='driver'"),
            "it claims the interface power, which another package has",
        ),
    ],
)
def test_a_folder_of_a_lab_is_checked_as_a_package_is(
    site: Path, lab: Path, manifest: str, complaint: str
) -> None:
    name = write_folder(lab, manifest, "__all__ = ['Fan']\nclass Fan: ...")
    assert driver_packages.folder_package(name) is None
    [sentence] = driver_packages.problems()
    assert sentence.startswith(f"the driver folder {name} is ignored: ")
    assert complaint in sentence


@pytest.mark.parametrize(
    "driver",
    [
        "BASE = ['Fan', 'Old']\n__all__ = [*BASE]",
        "__all__ = ['Fan']\n__all__ += ['Old']",
        "__all__: tuple[str, ...] = ('Fan', 'Old')",
    ],
)
def test_a_folder_may_compute_the_names_of_its_drivers(site: Path, lab: Path, driver: str) -> None:
    name = write_folder(lab, FAN_FOLDER, f"{driver}\nclass Fan: ...\nclass Old: ...\n")
    package = driver_packages.folder_package(name)
    assert package is not None
    assert list(package.types) == [f"{name}.Fan", f"{name}.Old"]
    assert driver_packages.problems() == []


def test_a_directory_that_cannot_be_listed_is_named_once(site: Path, lab: Path) -> None:
    lab.rmdir()
    lab.touch()
    assert "power" in {package.name for package in driver_packages.folder_packages()}
    driver_packages.all_packages()
    assert driver_packages.problems() == [
        f"the driver directory {lab} is ignored: it cannot be read (Not a directory); correct, update or remove it"
    ]


def test_a_manifest_cannot_be_changed() -> None:
    manifest = Manifest(package="fan", interface="fan")
    with pytest.raises(AttributeError):
        manifest.interface = "power"  # type: ignore[misc]
    with pytest.raises(ManifestError, match="is not a version"):
        Manifest(package="fan", interface="fan", needs="new")
