"""Names of files: one component of a path of what a peer wrote, a whole path of what a user wrote."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NewType

__all__ = ["MAX_NAME_BYTES", "SafeName", "path_text", "safe_name", "user_path"]

SafeName = NewType("SafeName", str)
"""A file's name that stays in the folder to which it is joined."""
MAX_NAME_BYTES = 200
"""File systems take 255; what others append, such as `.part`, has to fit."""


def path_text(path: Path) -> str:
    """A path for a file of UTF-8. Bytes that are none are escaped, so that it is not found under this name any more."""
    return os.fsencode(path).decode(errors="backslashreplace")


def user_path(text: str | os.PathLike[str]) -> Path:
    """The path that a user or an operator wrote, with `~` as a shell has it. Nothing that a peer wrote belongs here.

    `~nobody` of a user that does not exist stays as it is, as in a shell, and no such file is found.
    `Path.expanduser` would raise RuntimeError.
    """
    return Path(os.path.expanduser(text))


def safe_name(text: str, suffix: str = "") -> SafeName:
    """Return a file name for a text from a peer. Different texts get different names, except by intentional collisions.

    A valid name is returned unchanged. In other texts, invalid characters become `_`, and some digits of a hash are
    appended. The `suffix` is kept.
    """
    name = "".join(one if one.isprintable() and one != "/" else "_" for one in text)
    if name[:1] in ("", ".", "-", "~"):
        name = f"_{name[1:]}"
    room = MAX_NAME_BYTES - len(suffix.encode())
    if name != text or len(name.encode()) > room:
        import hashlib  # noqa: PLC0415 - it loads OpenSSL, and most commands name no file

        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        kept = name.encode()[: room - len(digest) - 1].decode(errors="ignore")
        name = f"{kept}-{digest}"
    return SafeName(name + suffix)
