"""A host whose boards are served in the test's own process."""

from __future__ import annotations

from pathlib import Path

import pytest

from jumpstarter_exporter import paths
from jumpstarter_exporter.boards.occupancy import OccupancyLimits
from jumpstarter_exporter.config.model import OccupancySeconds
from jumpstarter_exporter.serve import host as daemon
from tests.support.served_host import ServedHost


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host's folder, with the only configuration and state that its exporter sees."""
    monkeypatch.setenv("JUMPSTARTER_STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("JMP_CLIENT_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(paths, "SYSTEM_CONFIG_FOLDER", tmp_path / "none" / "exporters")
    monkeypatch.setattr(daemon, "limit_shutdown_time", lambda *_: None)
    return tmp_path


@pytest.fixture
def host(home: Path) -> ServedHost:
    """A host without boards."""
    return ServedHost(home)


@pytest.fixture
def users_leave_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Local use ends with the last connection that used the board."""
    monkeypatch.setattr(OccupancySeconds, "limits", property(lambda _: OccupancyLimits(leave=0.0)))
