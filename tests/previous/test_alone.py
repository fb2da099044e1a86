"""A client of one version drives an exporter of the other without a controller: over a unix socket and over TLS."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.interop import exporters, hardware
from tests.interop.exporters import Certificate
from tests.interop.user import User, assert_same
from tests.support import peers
from tests.support.peers import Environment


@pytest.fixture(scope="module", params=["unix", "tls"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["client now, exporter before", "client before, exporter now"])
def user(
    request: pytest.FixtureRequest,
    transport: str,
    previous: Environment,
    config: Path,
    home: Path,
    certificate: Certificate,
) -> Iterator[User]:
    client, exporter = (None, previous) if request.param.endswith("before") else (previous, None)
    with ExitStack() as stack:
        if transport == "unix":
            running = stack.enter_context(exporters.our_unix(config, home, exporter))
        else:
            running = stack.enter_context(exporters.our_tls(config, home, certificate, exporter))
        yield User(exporters.scripts(client), running, home)


def test_calls_and_a_streaming_call(user: User) -> None:
    assert user.program("power") == [[0.0, 0.0, 0.0], [5.0, 2.0, 10.0]]


def test_a_console_with_pexpect(user: User) -> None:
    assert user.program("serial") == {"looped": "loop"}


def test_a_console_by_its_age(user: User) -> None:
    user.run("jumpstarter", "serial", "log", "serial", "--since", "10m")


def test_flash_and_dump(user: User, tmp_path: Path) -> None:
    image = hardware.write_image(tmp_path / "disk.img", 4 * hardware.MIB)
    for dump in user.program("storage", str(image), str(tmp_path / "dump"), "").values():
        assert_same(Path(dump), image, "", user.exporter)


def test_one_command(user: User) -> None:
    user.run("jumpstarter", "power", "on", "power")


def test_the_version_before_is_what_its_commit_holds(previous: Environment) -> None:
    """And not this tree by some other way."""
    source = "client/jumpstarter_client/base.py"
    commit = peers.previous_version().commit
    git = ["git", "-c", "safe.directory=*", "-C", str(peers.ROOT), "show", f"{commit}:{source}"]
    shown = subprocess.run(git, capture_output=True, check=True).stdout
    assert (previous.site_packages / source.removeprefix("client/")).read_bytes() == shown
