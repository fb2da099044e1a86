"""The packages that are tested: built once for a run, quickly packed. They need root, Debian and its archive."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jumpstarter_deb import roots
from jumpstarter_deb.guest import Guest
from jumpstarter_deb.recipe import PACKAGES, RELEASES
from jumpstarter_deb.trial import NEWER, OLDER, Packages

# Minutes, and as root: `make deb-test` says so, `pytest images` does not.
collect_ignore_glob = [] if os.environ.get("JUMPSTARTER_TEST_PACKAGES") else ["test_*.py"]
TESTED = [RELEASES[int(number)] for number in os.environ.get("RELEASE", "12 13").split()]


@pytest.fixture(scope="session", autouse=True)
def _needed() -> None:
    if os.geteuid() != 0:
        pytest.skip("missing: root, to install packages in roots")
    if shutil.which("mmdebstrap") is None:
        pytest.skip("missing: mmdebstrap; apt install mmdebstrap")


@pytest.fixture(scope="module", params=TESTED, ids=lambda release: f"debian{release.number}")
def packages(request: pytest.FixtureRequest) -> Iterator[Packages]:
    """Three packages of the newer version, and of the older one the two that have a state."""
    with tempfile.TemporaryDirectory(prefix="test-", dir=roots.cache()) as folder:
        made = Packages(request.param, Path(folder))
        made.build(NEWER, *PACKAGES, foreign=True)
        made.build(OLDER, "jumpstarter-exporter", "jumpstarter-controller")
        yield made


@pytest.fixture
def make_guest(packages: Packages) -> Iterator[Callable[[], Guest]]:
    """Makes a fresh Debian, as its installer leaves one that has systemd and network and nothing else."""
    with tempfile.TemporaryDirectory(prefix="test-", dir=roots.cache()) as folder:
        number = 0

        def make() -> Guest:
            nonlocal number
            number += 1
            root = roots.unpacked(packages.release, [], Path(folder) / str(number), "important")
            return Guest(root, packages.release.number)

        yield make


@pytest.fixture
def guest(make_guest: Callable[[], Guest]) -> Guest:
    """One of them."""
    return make_guest()
