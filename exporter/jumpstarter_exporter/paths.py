"""Folders of the exporter on its host: its state, and its configuration files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from jumpstarter_proto.file_names import user_path

__all__ = ["SYSTEM_CONFIG_FOLDER", "SYSTEM_STATE_FOLDER", "config_folders", "state_directory"]

SYSTEM_CONFIG_FOLDER = Path("/etc/jumpstarter/exporters")
SYSTEM_STATE_FOLDER = Path("/var/lib/jumpstarter")


def state_directory(environment: Mapping[str, str]) -> Path:
    """The folder for files that must survive a restart of the exporter.

    `JUMPSTARTER_STATE_DIRECTORY` or systemd's `STATE_DIRECTORY` set it. The default is the system's folder if it is
    writable, else the user's.
    """
    named = (
        environment.get("JUMPSTARTER_STATE_DIRECTORY")
        or environment.get("STATE_DIRECTORY", "").partition(":")[0]
    )
    if named:
        return Path(named)
    if os.access(SYSTEM_STATE_FOLDER, os.W_OK):
        return SYSTEM_STATE_FOLDER
    base = environment.get("XDG_STATE_HOME") or "~/.local/state"
    return user_path(base) / "jumpstarter"


def config_folders() -> list[Path]:
    """The folders that are searched for `<name>.yaml`: the user's, then the system's, as in Jumpstarter 0.9."""
    home = os.environ.get("JMP_CLIENT_CONFIG_HOME")
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return [user_path(home or f"{base}/jumpstarter") / "exporters", SYSTEM_CONFIG_FOLDER]
