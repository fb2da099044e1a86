"""Descriptors from systemd at the start of a daemon: sd_listen_fds(3).

Sockets that it has made (socket activation), so that users who connect while the daemon is started again wait in their
queues; and descriptors that the process before has stored (`descriptor_store`).
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from jumpstarter_proto.numbers import find_number
from jumpstarter_proto.process.descriptor_table import device_of
from jumpstarter_proto.texts import shown

__all__ = ["MAX_DESCRIPTORS", "Inherited", "inherited_descriptors"]

FIRST_DESCRIPTOR = 3
MAX_DESCRIPTORS = 256
"""A unit of ours has one socket, and stores fewer than that."""

_log = logging.getLogger(__name__)


@dataclass
class Inherited:
    """The descriptors; the caller closes those that it takes."""

    listeners: dict[Path, socket.socket] = field(default_factory=dict)
    """Unix sockets by path."""
    stored: dict[str, int] = field(default_factory=dict)
    """By their names, which `descriptor_table.name_of` has made; what is behind them is for the store to check."""


def inherited_descriptors(
    environment: MutableMapping[str, str] = os.environ, *, first: int = FIRST_DESCRIPTOR
) -> Inherited:
    """The unix sockets and the stored descriptors that this process was started with.

    What the environment says of them is removed, and programs that this process starts do not inherit them. What is no
    listening unix socket with a path and has no name of a stored one, or one that another has, is closed, with a
    warning. `first` is the descriptor of the first one.
    """
    process = environment.pop("LISTEN_PID", "")
    number = find_number(environment.pop("LISTEN_FDS", ""))
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    found = Inherited()
    if process != str(os.getpid()) or number is None:
        return found
    count = min(number, MAX_DESCRIPTORS)
    names += [""] * (count - len(names))
    for descriptor, name in zip(range(first, first + count), names, strict=False):
        _take(found, descriptor, name)
    return found


def _take(found: Inherited, descriptor: int, name: str) -> None:
    try:
        if not os.get_inheritable(descriptor):  # opened by this process: LISTEN_FDS names more than there are
            _log.warning("systemd has not handed over descriptor %s, though LISTEN_FDS names it", descriptor)
            return
        os.set_inheritable(descriptor, False)
        if device_of(name) is not None and name not in found.stored:
            found.stored[name] = descriptor
            return
        one = socket.socket(fileno=descriptor)
    except OSError as error:
        what = f"descriptor {descriptor} ({shown(name)})" if name else f"descriptor {descriptor}"
        _log.warning("systemd has handed over %s, which is not a socket: %s", what, error)
        with suppress(OSError):
            os.close(descriptor)
        return
    path = one.getsockname() if one.family == socket.AF_UNIX else ""
    if isinstance(path, str) and path and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        found.listeners[Path(path)] = one
    else:
        _log.warning("systemd has handed over %s, which is not a listening unix socket with a path", one)
        one.close()
