"""Fixtures that several of the test folders share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support import go, peers, systemd_tools
from tests.support.lab import Lab

GO = Path(__file__).with_name("rpc") / "go"
PEERS: dict[str, Callable[[], Any]] = {
    "upstream": peers.jumpstarter,
    "previous": peers.previous,
    "h2spec": partial(go.program, GO / "h2spec", "github.com/summerwind/h2spec/cmd/h2spec"),
    "grpc_go": partial(go.program, GO / "interop"),
    "go_board": partial(go.program, Path(__file__).with_name("typed") / "go" / "board"),
    "grpcurl": partial(
        go.program,
        Path(__file__).with_name("typed") / "go" / "grpcurl",
        "github.com/fullstorydev/grpcurl/cmd/grpcurl",
    ),
    "udevadm": systemd_tools.udevadm,
    "systemd_analyze": systemd_tools.systemd_analyze,
}
"""Who is built, by the fixture that gives it."""
BUILT = pytest.StashKey[dict[str, Any]]()
"""What `PEERS` returned, or the PeerUnavailableError that it raised."""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the peers before the first test, where no test's time limit runs.

    With pytest-xdist each worker comes here, and the controller, which runs no test, does not: one worker builds.
    """
    if session.config.option.collectonly:
        return
    built = session.config.stash[BUILT] = {}
    for name, build in PEERS.items():
        if any(name in getattr(item, "fixturenames", ()) for item in session.items):
            try:
                built[name] = build()
            except peers.PeerUnavailableError as error:
                built[name] = error


@pytest.fixture(scope="session")
def upstream(request: pytest.FixtureRequest) -> peers.Environment:
    """Jumpstarter 0.9.0 in its own environment; it has to be installed once, which needs the package index."""
    return _built(request, "upstream", "Jumpstarter 0.9.0 cannot be installed")


@pytest.fixture(scope="session")
def previous(request: pytest.FixtureRequest) -> peers.Environment:
    """The version before in its own environment; it has to be in the clone's history, and installed once."""
    return _built(request, "previous", "the version before cannot be installed")


@pytest.fixture(scope="session")
def h2spec(request: pytest.FixtureRequest) -> Path:
    """The conformance test of HTTP/2 servers; it has to be built once, which needs Go and its modules."""
    return _built(request, "h2spec", "h2spec cannot be built")


@pytest.fixture(scope="session")
def grpc_go(request: pytest.FixtureRequest) -> Path:
    """grpc-go's client and server of gRPC's interoperability cases; it has to be built once, too."""
    return _built(request, "grpc_go", "grpc-go's interoperability cases cannot be built")


@pytest.fixture(scope="session")
def go_board(request: pytest.FixtureRequest) -> Path:
    """A program in Go that drives a board; it has to be built once, too."""
    return _built(request, "go_board", "the Go program that drives a board cannot be built")


@pytest.fixture(scope="session")
def grpcurl(request: pytest.FixtureRequest) -> Path:
    """grpcurl, a client that learns services by reflection; it has to be built once, too."""
    return _built(request, "grpcurl", "grpcurl cannot be built")


@pytest.fixture(scope="session")
def udevadm(request: pytest.FixtureRequest) -> list[str]:
    """The command of a udevadm that can verify rules."""
    return _built(request, "udevadm", "a udevadm that verifies rules, as Debian 13 has")


@pytest.fixture(scope="session")
def systemd_analyze(request: pytest.FixtureRequest) -> list[systemd_tools.Tool]:
    """The versions of systemd-analyze that check units here."""
    return _built(request, "systemd_analyze", "systemd-analyze, which the package systemd has")


def _built(request: pytest.FixtureRequest, name: str, otherwise: str) -> Any:
    built = request.config.stash[BUILT][name]
    if isinstance(built, peers.PeerUnavailableError):
        pytest.skip(f"missing: {otherwise}: {built.summary}")
    return built


@pytest.fixture(scope="session")
def warm_lab() -> Iterator[Lab]:
    """A controller with its router for all tests of this process that neither kill it nor need options of their own."""
    with Lab.opened() as lab:
        yield lab
