"""Boot tests need built images, an emulator, and a network of their own: `make image-test` has all of it.

Without $JUMPSTARTER_TEST_IMAGE, the folder of the images (`dist`), nothing here is collected: `make test` runs in
minutes and as anybody.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

sys.path.insert(0, str(Path(__file__).parent))

from arm64_report import Boot, write
from machine import FIRMWARE_AT, Image

if TYPE_CHECKING:
    from enrolled import Story

FOLDER = os.environ.get("JUMPSTARTER_TEST_IMAGE")
collect_ignore_glob = [] if FOLDER else ["test_*.py"]


def built(architecture: str) -> Image:
    """The image for arm64 or amd64 from `make image`."""
    assert FOLDER is not None
    folder = Path(FOLDER).resolve()
    image = Image(folder / f"jumpstarter-{architecture}.img", folder / f"jumpstarter-{architecture}.build")
    if not image.disk.exists():
        pytest.skip(f"missing: {image.disk}; make image ARCHITECTURE={architecture}")
    return image


def built_package(name: str, version: str, architecture: str = "amd64") -> Path:
    """A package of ours in another version than that of the image."""
    assert FOLDER is not None
    found = sorted(
        (Path(FOLDER).resolve() / "next").glob(f"jumpstarter-{name}_{version}+*_{architecture}.deb")
    )
    if not found:
        pytest.skip(
            f"missing: version {version} of jumpstarter-{name}; make deb DEB_ARGS='--release 13 --architecture "
            f"{architecture} --package jumpstarter-{name} --version {version} --output {FOLDER}/next'"
        )
    return found[0]


@pytest.fixture
def newer() -> Path:
    """A package of the exporter that is newer than that in the image."""
    return built_package("exporter", "100")


@pytest.fixture
def twin() -> Image:
    """The image for amd64."""
    return built("amd64")


def with_file(image: Image, folder: Path, text: str) -> Image:
    """A copy of an image with this jumpstarter.yaml on its first partition, written as on a laptop."""
    disk = folder / "card.img"
    subprocess.run(["cp", "--sparse=always", image.disk, disk], check=True)
    (folder / "jumpstarter.yaml").write_text(text)
    subprocess.run(
        [
            "mcopy",
            "-o",
            "-i",
            f"{disk}@@{FIRMWARE_AT}",
            str(folder / "jumpstarter.yaml"),
            "::jumpstarter.yaml",
        ],
        check=True,
    )
    return Image(disk, image.folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path for sockets and files of the guest; it is removed after the test."""
    path = Path(tempfile.mkdtemp(prefix="boot-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def snapshots() -> list[Story]:
    """The stories that were run completely, from power-on."""
    return []


@pytest.fixture(scope="session")
def stories() -> Iterator[Path]:
    """A folder for stories, which exists longer than the tests."""
    path = Path(tempfile.mkdtemp(prefix="told-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def _new_story(stories: Path) -> Story:
    from enrolled import Story

    return Story(Path(tempfile.mkdtemp(dir=stories)))


@pytest.fixture
def story(snapshots: list[Story], stories: Path) -> Iterator[Story]:
    """A new story. If it is run completely, other tests continue from its end."""
    new = _new_story(stories)
    yield new
    if new.is_complete:
        snapshots.append(new)
    else:
        shutil.rmtree(new.folder, ignore_errors=True)


@pytest.fixture
def story_told(twin: Image, snapshots: list[Story], stories: Path) -> Story:
    """A story that was run completely. It is run here if its own test did not run or failed."""
    if not snapshots:
        new = _new_story(stories)
        snapshots.append(new)
        try:
            trio.run(_tell, twin, new)
        finally:
            if not new.is_complete:
                snapshots.remove(new)
                shutil.rmtree(new.folder, ignore_errors=True)
    return snapshots[0]


async def _tell(twin: Image, story: Story) -> None:
    from enrolled import from_power

    async with from_power(twin, story):
        pass


_MEASURED: list[str] = []
_ARM64: list[Boot] = []


@pytest.fixture
def report() -> Callable[[str], None]:
    """Report a measured value at the end of the test run."""
    return _MEASURED.append


@pytest.fixture
def arm64_boots() -> list[Boot]:
    """The boots of the image for Raspberry Pis that have succeeded."""
    return _ARM64


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the measured values, and write down the boots of the image for Raspberry Pis if all have succeeded."""
    for line in _MEASURED:
        terminalreporter.write_line(f"measured: {line}")
    if {one.model for one in _ARM64} == {"virt", "raspi3b"}:
        write(built("arm64").disk, _ARM64)
