"""Where an exporter keeps what has to survive it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["state_directory"]

SYSTEM = Path("/var/lib/jumpstarter")


def state_directory(environment: Mapping[str, str]) -> Path:
    """What `JUMPSTARTER_STATE_DIRECTORY` or systemd's `STATE_DIRECTORY` say; else the system's place, or the user's."""
    named = (
        environment.get("JUMPSTARTER_STATE_DIRECTORY")
        or environment.get("STATE_DIRECTORY", "").partition(":")[0]
    )
    if named:
        return Path(named)
    if os.access(SYSTEM, os.W_OK):
        return SYSTEM
    base = environment.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "jumpstarter"
