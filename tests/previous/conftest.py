"""Labs whose controller is of one version, each with an exporter and a client of both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
from jumpstarter_drivers.virtual.image import make_image

from tests.interop import exporters
from tests.interop.conftest import certificate, config, home
from tests.interop.lab import Lab, Person
from tests.support.peers import Environment

__all__ = ["certificate", "config", "home"]

VERSIONS = ("now", "before")
MIXES = [mix for mix in product(VERSIONS, repeat=3) if len(set(mix)) > 1]
"""Controller with its router, exporter, client; without those that are all of one version."""
SIZE = 4 << 20
BOARD = """export:
  rpi4:
    type: virtual.VirtualBoard
    config: {hostname: rpi4, boot_seconds: 0, storage: @CARD@, storage_size: @SIZE@}
"""


@dataclass(frozen=True)
class Mix:
    """A lab, and who of it is meant: a board by its label, its client, and the client of the other version."""

    lab: Lab
    board: str
    client: Person
    other: Person

    @property
    def selector(self) -> tuple[str, str]:
        return "-l", f"board={self.board}"

    @property
    def is_ours(self) -> bool:
        """Whether the client is of this tree."""
        return self.client.installed is None

    @property
    def log(self) -> str:
        """What the exporter has said."""
        return self.lab.exporters[self.board].log.read_text()


@dataclass(frozen=True)
class Site:
    """A lab with a controller of one version, and both versions' clients."""

    lab: Lab
    clients: dict[str, Person]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of mixes run with all that have the controller of their class.

    Where the router is a process of the other version, each version is once the exporter and once the client.
    """
    if "mix" in metafunc.fixturenames:
        others = [mix[1:] for mix in MIXES if mix[0] == metafunc.cls.controller]
        if metafunc.cls.router:
            others = [(exporter, client) for exporter, client in others if exporter != client]
        metafunc.parametrize(
            "mix", others, indirect=True, ids=[f"exporter {e}, client {c}" for e, c in others]
        )


@pytest.fixture(scope="session")
def installed(previous: Environment) -> dict[str, Environment | None]:
    """Where each version is; None: here."""
    return {"now": None, "before": previous}


@pytest.fixture(scope="class")
def site(request: pytest.FixtureRequest, installed: dict[str, Environment | None]) -> Iterator[Site]:
    controller, router = request.cls.controller, request.cls.router
    endpoint = f"127.0.0.1:{exporters.free_port()}"
    with Lab.opened(*(["--router", endpoint] if router else []), installed=installed[controller]) as lab:
        if router:
            key = lab.home / "router.pem"
            lab.admin("router", "create", endpoint, "--save", key)
            program = exporters.scripts(installed[router]) / "jumpstarter-router"
            assert (
                lab.daemon(program, "--key", key, "--listen", endpoint).first_line()
                == f"Router on {endpoint}"
            )
        for version in VERSIONS:
            export = BOARD.replace("@CARD@", str(lab.home / f"{version}.img")).replace("@SIZE@", str(SIZE))
            lab.exporter(
                version, label=f"board={version}", export=export, installed=installed[version], wait=False
            )
        clients = {version: lab.person(f"user-{version}", where) for version, where in installed.items()}
        for version in VERSIONS:
            lab.until(lambda name=version: lab.status(name) == "AVAILABLE")  # type: ignore[misc]
        yield Site(lab, clients)


@pytest.fixture
def mix(request: pytest.FixtureRequest, site: Site) -> Mix:
    board, client = request.param
    [other] = set(VERSIONS) - {client}
    return Mix(site.lab, board, site.clients[client], site.clients[other])


@pytest.fixture(scope="session")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image that boots and fills the board's card."""
    path = tmp_path_factory.mktemp("image") / "card.img"
    make_image(path, "hello", size=SIZE)
    return path
