"""The fixtures of the command line's tests."""

from __future__ import annotations

from jumpstarter_client.cli.conftest import command, empty_home, lab

__all__ = ["command", "empty_home", "lab"]
