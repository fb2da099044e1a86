"""What the commands `jumpstarter-controller` and `jumpstarter-router` have in common."""

from __future__ import annotations

from typing import Literal

__all__ = ["CONTROLLER", "ROUTER", "Level", "LogFormat"]

CONTROLLER = "jumpstarter-controller"
ROUTER = "jumpstarter-router"
ROUTER_PORT = 8083
"""Where a router listens, unless it is told otherwise."""
Level = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]
