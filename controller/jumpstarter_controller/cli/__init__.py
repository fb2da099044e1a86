"""The commands `jumpstarter-controller` and `jumpstarter-router`."""

from __future__ import annotations

from jumpstarter_controller.cli.main import main

__all__ = ["main"]
