"""Names of files that are made of what a peer wrote: one component of a path, whatever was written."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NewType

__all__ = ["MAX_NAME_BYTES", "SafeName", "path_text", "safe_name"]

SafeName = NewType("SafeName", str)
"""A file's name that stays in the folder to which it is joined."""
MAX_NAME_BYTES = 200
"""File systems take 255; what others append, such as `.part`, has to fit."""


def path_text(path: Path) -> str:
    """A path for a file of UTF-8. Bytes that are none are escaped, so that it is not found under this name any more."""
    return os.fsencode(path).decode(errors="backslashreplace")


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
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        kept = name.encode()[: room - len(digest) - 1].decode(errors="ignore")
        name = f"{kept}-{digest}"
    return SafeName(name + suffix)
