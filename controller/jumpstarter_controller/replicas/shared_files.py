"""The keys and the certificate that all controllers of a lab share; the first controller creates them.

Each controller accepts the signatures of the others, and clients trust all of them by one certificate. Each has a copy
in its own folder, like a single controller.
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
    """The shared store of these files. Blocking."""

    NAME: str

    def read(self) -> dict[str, bytes] | None:
        """The files by name; None: it does not exist. StoreError: it cannot be read."""

    def make(self, files: Mapping[str, bytes]) -> bool:
        """Create it. Returns False if another replica was first. StoreError: unknown whether it was created."""

    def add(self, files: Mapping[str, bytes]) -> bool:
        """Add files. Returns False if it was changed since it was read. StoreError: unknown whether they were added."""


def share_files(
    secret: SharedSecret, files: Mapping[Path, Callable[[], object]], precious: Collection[Path]
) -> None:
    """Write the shared content of all replicas to these files. Blocking.

    `files` has the function that creates each file if it does not exist yet; files of one function belong together. A
    different file in this folder is kept under another name. If a `precious` file is lost, all tokens become invalid.

    Raises:
        StoreError: the Secret cannot be read or written, or is empty.
    """
    while (found := _agreed(secret, files, precious)) is None:
        pass  # others do the same in this moment
    for path in files:
        _take_over(path, found[path.name])


def _agreed(
    secret: SharedSecret, files: Mapping[Path, Callable[[], object]], precious: Collection[Path]
) -> dict[str, bytes] | None:
    """The files when all are there; None: another replica has changed it meanwhile."""
    found = secret.read()
    if found is None:
        made = _made(files, files)
        return made if secret.make(made) else None
    missing = [path for path in files if not found.get(path.name)]
    if not missing:
        return found
    ours: dict[str, bytes] = {}
    for path in missing:
        if not path.exists() and path in precious:
            continue
        parts = _made([one for one, make in files.items() if make is files[path]], files)
        is_another = any(found.get(name, data) not in {data, b""} for name, data in parts.items())
        # A key is nothing without its own certificate.
        ours |= parts if is_another else {path.name: parts[path.name]}
    if lost := sorted({path.name for path in missing} - ours.keys()):
        raise StoreError(
            f"{', '.join(lost)} was removed from the Secret {secret.NAME}, and this controller has no copy; restore "
            "it, or delete the Secret, so that new keys are created and all tokens become invalid"
        )
    if not secret.add(ours):
        return None
    _log.warning("the Secret %s had no %s; it has this controller's", secret.NAME, ", ".join(sorted(ours)))
    return found | ours


def _made(paths: Collection[Path], files: Mapping[Path, Callable[[], object]]) -> dict[str, bytes]:
    """Read them when all are there: what makes one may make another anew."""
    for path in paths:
        if not path.exists():
            files[path]()
    return {path.name: path.read_bytes() for path in paths}


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
