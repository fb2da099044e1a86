"""Fixtures that several of the test folders share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import peers
from tests.support.lab import Lab

PEERS = {"upstream": peers.jumpstarter, "previous": peers.previous}
"""Who is built, by the fixture that gives it."""
BUILT = pytest.StashKey[dict[str, peers.Environment | peers.PeerUnavailableError]]()


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
    built = request.config.stash[BUILT]["upstream"]
    if isinstance(built, peers.PeerUnavailableError):
        pytest.skip(f"missing: Jumpstarter 0.9.0 cannot be installed: {built.summary}")
    return built


@pytest.fixture(scope="session")
def previous(request: pytest.FixtureRequest) -> peers.Environment:
    """The version before in its own environment; it has to be in the clone's history, and installed once."""
    built = request.config.stash[BUILT]["previous"]
    if isinstance(built, peers.PeerUnavailableError):
        pytest.skip(f"missing: the version before cannot be installed: {built.summary}")
    return built


@pytest.fixture(scope="session")
def warm_lab() -> Iterator[Lab]:
    """A controller with its router for all tests of this process that neither kill it nor need options of their own."""
    with Lab.opened() as lab:
        yield lab
