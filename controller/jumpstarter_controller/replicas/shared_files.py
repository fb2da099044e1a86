"""The keys and the certificate that all controllers of a lab have in common: whoever comes first makes them.

What one replica has signed, another knows again; clients trust all of them by one certificate. Each has them in its own
folder, too, as a controller that is alone has.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Protocol

from jumpstarter_proto.private_files import write_private

from jumpstarter_controller.store import StoreError

__all__ = ["SharedSecret", "share_files"]

_log = logging.getLogger(__name__)


class SharedSecret(Protocol):
    """Where they are for all. Blocking."""

    NAME: str

    def read(self) -> dict[str, bytes] | None:
        """What is in it by name; None: it is not there. StoreError: it cannot be read."""

    def make(self, files: Mapping[str, bytes]) -> bool:
        """Make it; False: another was first. StoreError: who knows."""

    def add(self, files: Mapping[str, bytes]) -> bool:
        """Put these into it; False: it is not as it was read. StoreError: who knows."""


def share_files(
    secret: SharedSecret, files: Mapping[Path, Callable[[], object]], precious: Collection[Path]
) -> None:
    """Have in these files what all replicas have. Blocking.

    `files` says of each what makes it, where there is none yet. A file of this folder that is another is kept beside
    the one that is shared. Without one that is `precious` what others have would count no more.

    Raises:
        StoreError: the Secret cannot be read or written, or somebody has emptied it.
    """
    while (found := _agreed(secret, files, precious)) is None:
        pass  # others do the same in this moment
    for path in files:
        _take_over(path, found[path.name])


def _agreed(
    secret: SharedSecret, files: Mapping[Path, Callable[[], object]], precious: Collection[Path]
) -> dict[str, bytes] | None:
    """What is in it when all is; None: another has changed it meanwhile."""
    found = secret.read()
    if found is None:
        ours = {path.name: _made(path, make) for path, make in files.items()}
        return ours if secret.make(ours) else None
    missing = {path.name: path for path in files if not found.get(path.name)}
    if not missing:
        return found
    ours = {
        name: _made(path, files[path])
        for name, path in missing.items()
        if path.exists() or path not in precious
    }
    if lost := sorted(missing.keys() - ours.keys()):
        raise StoreError(
            f"somebody has taken {', '.join(lost)} out of the Secret {secret.NAME}, and this controller has no "
            "copy; put it back, or delete the Secret to have new keys made: all tokens are invalid then"
        )
    if not secret.add(ours):
        return None
    _log.warning("the Secret %s had no %s; it has this controller's", secret.NAME, ", ".join(sorted(ours)))
    return found | ours


def _made(path: Path, make: Callable[[], object]) -> bytes:
    if not path.exists():
        make()
    return path.read_bytes()


def _take_over(path: Path, data: bytes) -> None:
    if path.exists():
        own = path.read_bytes()
        if own == data:
            return
        before = path.with_suffix(f"{path.suffix}.own")
        write_private(before, own)
        _log.warning(
            "%s is another than the one of all controllers of this lab, and is kept as %s", path, before
        )
    write_private(path, data)
