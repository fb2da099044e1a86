"""Boot tests need built images, an emulator, and a network of their own: `make image-test` has all of it.

Without $JUMPSTARTER_TEST_IMAGE, the folder of the images (`dist`), nothing here is collected: `make test` runs in
minutes and as anybody.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from machine import FIRMWARE_AT, Image

FOLDER = os.environ.get("JUMPSTARTER_TEST_IMAGE")
collect_ignore_glob = [] if FOLDER else ["test_*.py"]


def built(architecture: str) -> Image:
    """The image of `make image` or of its twin."""
    assert FOLDER is not None
    folder = Path(FOLDER).resolve()
    image = Image(folder / f"jumpstarter-{architecture}.img", folder / f"jumpstarter-{architecture}.build")
    if not image.disk.exists():
        pytest.skip(f"missing: {image.disk}; make image ARCHITECTURE={architecture}")
    return image


@pytest.fixture
def twin() -> Image:
    """The image for amd64."""
    return built("amd64")


def with_file(image: Image, folder: Path, text: str) -> Image:
    """A copy whose first partition has this jumpstarter.yaml, as a person's laptop would write it."""
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
def folder() -> Path:
    """For sockets, whose paths are short, and files of the guest; it goes with the test."""
    import tempfile

    path = Path(tempfile.mkdtemp(prefix="boot-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
