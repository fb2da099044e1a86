"""Fixtures that several of the test folders share."""

from __future__ import annotations

import pytest

from tests.support import peers

UPSTREAM = pytest.StashKey[peers.Environment | peers.PeerUnavailableError]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the peer before the first test, where no test's time limit runs."""
    if session.config.option.collectonly:
        return
    if any("upstream" in getattr(item, "fixturenames", ()) for item in session.items):
        try:
            session.config.stash[UPSTREAM] = peers.jumpstarter()
        except peers.PeerUnavailableError as error:
            session.config.stash[UPSTREAM] = error


@pytest.fixture(scope="session")
def upstream(request: pytest.FixtureRequest) -> peers.Environment:
    """Jumpstarter 0.9.0 in its own environment; it has to be installed once, which needs the package index."""
    built = request.config.stash[UPSTREAM]
    if isinstance(built, peers.PeerUnavailableError):
        pytest.skip(f"missing: Jumpstarter 0.9.0 cannot be installed: {built.summary}")
    return built
