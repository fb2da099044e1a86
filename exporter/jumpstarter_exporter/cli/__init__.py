"""The command `jumpstarter-exporter`."""

from __future__ import annotations

from jumpstarter_exporter.cli.main import main

__all__ = ["main"]
