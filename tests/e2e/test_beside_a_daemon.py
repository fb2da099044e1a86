"""A command with a built-in exporter, on a host whose daemon has the board."""

from __future__ import annotations

from tests.e2e.conftest import Lab


def test_nothing_is_switched_beside_the_daemon_that_has_the_board(lab: Lab) -> None:
    config = str(lab.home / "exporter.yaml")
    code, why = lab.refused("power", "on", "rpi4", "--config", config)
    assert code == 5
    assert f"the board of {config} is served by process " in why
    assert f" on this host; use that: --host {lab.socket}" in why
    lab.ok("power", "on", "rpi4")
