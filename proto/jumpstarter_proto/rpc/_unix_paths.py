"""Unix sockets with long paths: an address has room for 107 bytes, and TMPDIR may be longer.

A temporary socket is created in a folder with a short path, because other programs get its path. A socket at a path
that the user chose is bound and connected through the descriptor of its folder.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jumpstarter_proto.run_folders import RunFolder

__all__ = ["MAX_ADDRESS_BYTES", "socket_address", "socket_folder"]

MAX_ADDRESS_BYTES = 107
"""`sun_path` of unix(7) has 108, and the last is a zero."""
MAX_NAME_BYTES = 16
"""Of a socket in a `socket_folder`."""
_RANDOM_BYTES = 8
"""What `tempfile` adds to a prefix."""


@contextmanager
def socket_folder(prefix: str) -> Iterator[Path]:
    """A new private folder for temporary sockets with names of up to 16 bytes; a `RunFolder` for the block.

    It is where temporary files are if that path is short enough, else in $XDG_RUNTIME_DIR, `/run` or `/tmp`.
    """
    with RunFolder(prefix, _place(prefix)) as folder:
        yield folder


def _place(prefix: str) -> str:
    first = tempfile.gettempdir()
    room = MAX_ADDRESS_BYTES - len(os.fsencode(f"/{prefix}/")) - _RANDOM_BYTES - MAX_NAME_BYTES
    if len(os.fsencode(first)) <= room:
        return first
    for place in (os.environ.get("XDG_RUNTIME_DIR", ""), "/run", "/tmp"):  # noqa: S108 - the folder in it is private
        fits = os.path.isabs(place) and len(os.fsencode(place)) <= room
        if fits and os.access(place, os.W_OK | os.X_OK):
            return place
    return first


@contextmanager
def socket_address(path: str | os.PathLike[str]) -> Iterator[str]:
    """What to bind or connect a unix socket to so that it is at the path, however long that is, during the block.

    Raises:
        OSError: the path is too long for an address, and its folder cannot be opened or its last part is too long too.
    """
    path = os.fspath(path)
    if len(os.fsencode(path)) <= MAX_ADDRESS_BYTES:
        yield path
        return
    folder, name = os.path.split(path)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        address = f"/proc/self/fd/{descriptor}/{name}"
        if len(os.fsencode(address)) > MAX_ADDRESS_BYTES:
            raise OSError(errno.ENAMETOOLONG, "the socket's name is too long", path)
        yield address
    finally:
        os.close(descriptor)
