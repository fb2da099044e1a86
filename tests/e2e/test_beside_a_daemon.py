"""A command with a built-in exporter, on a host whose daemon has the board."""

from __future__ import annotations

from tests.e2e.conftest import Lab


def test_a_command_uses_the_daemon_that_has_the_board(lab: Lab) -> None:
    """Nothing is switched beside it."""
    config = str(lab.home / "exporter.yaml")
    lab.ok("power", "on", "rpi4", "--config", config)
    assert lab.ok("shell", "--config", config, "--", "sh", "-c", "echo $JUMPSTARTER_HOST").strip() == str(
        lab.socket
    )
