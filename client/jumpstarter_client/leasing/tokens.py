"""The tokens in a configuration file, replaced."""

from __future__ import annotations

from pathlib import Path

from jumpstarter_proto.documents import edited
from jumpstarter_proto.private_files import write_private

__all__ = ["replace_tokens"]


def replace_tokens(path: Path, token: str, refresh_token: str = "") -> None:
    """Put new tokens into a configuration; all else stays, comments too. PrivateFileError if it cannot be written."""
    changes: dict[tuple[str, ...], str | bool] = {("token",): token}
    if refresh_token:
        changes[("refresh_token",)] = refresh_token
    write_private(path, edited(path.read_text(encoding="utf-8"), changes).encode())
