"""Environments with the libraries of one extra each, built before the first test and kept between runs."""

from __future__ import annotations

import pytest

from tests.support import extras, peers

EXTRAS = list(extras.extras())


def libraries_of(extra: str) -> peers.Environment:
    """The libraries of the base, and those of one extra."""
    base = peers.with_libraries("base", extras.extras()[extras.BASE])
    requirements = [one for name in extras.closed(extra) for one in extras.extras()[name]]
    own = [one for one in requirements if not one.startswith("jumpstarter-sbc")]
    return peers.with_libraries(f"extra-{extra}", own, below=base) if own else base


BUILT = pytest.StashKey[dict[str, peers.Environment | peers.PeerUnavailableError]]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the environments where no test's time limit runs."""
    if session.config.option.collectonly:
        return
    wanted = {
        item.callspec.params["extra"]
        for item in session.items
        if "libraries" in getattr(item, "fixturenames", ()) and hasattr(item, "callspec")
    }
    built = session.config.stash[BUILT] = {}
    for extra in EXTRAS:
        if extra in wanted:
            try:
                built[extra] = libraries_of(extra)
            except peers.PeerUnavailableError as error:
                built[extra] = error


@pytest.fixture
def libraries(request: pytest.FixtureRequest, extra: str) -> peers.Environment:
    """The environment of the extra that the test is for."""
    built = request.config.stash[BUILT][extra]
    if isinstance(built, peers.PeerUnavailableError):
        pytest.skip(f"missing: the libraries of [{extra}] cannot be installed: {built.summary}")
    return built
