"""Listening sockets that systemd has made and hands over: sd_listen_fds(3), socket activation.

systemd keeps its own copy, so that users who connect while the daemon is started again wait in the socket's queue.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from pathlib import Path

__all__ = ["inherited_listeners"]

FIRST_DESCRIPTOR = 3
MAX_DESCRIPTORS = 64
"""A unit of ours has one."""

_log = logging.getLogger(__name__)


def inherited_listeners(
    environment: MutableMapping[str, str] = os.environ, *, first: int = FIRST_DESCRIPTOR
) -> dict[Path, socket.socket]:
    """The unix sockets that this process was started with, by path; whoever takes one closes it.

    What the environment says of them is removed, and programs that this process starts do not inherit them. What is no
    listening unix socket with a path is closed, with a warning. `first` is the descriptor of the first one.
    """
    process = environment.pop("LISTEN_PID", "")
    number = environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()) or not number.isdecimal():
        return {}
    return dict(_listeners(range(first, first + min(int(number), MAX_DESCRIPTORS))))


def _listeners(descriptors: range) -> Iterator[tuple[Path, socket.socket]]:
    for descriptor in descriptors:
        try:
            os.set_inheritable(descriptor, False)
            found = socket.socket(fileno=descriptor)
        except OSError as error:
            _log.warning("systemd has handed over descriptor %d, which is no socket: %s", descriptor, error)
            with suppress(OSError):
                os.close(descriptor)
            continue
        name = found.getsockname() if found.family == socket.AF_UNIX else ""
        if isinstance(name, str) and name and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            yield Path(name), found
        else:
            _log.warning("systemd has handed over %s, which is no listening unix socket with a path", found)
            found.close()
