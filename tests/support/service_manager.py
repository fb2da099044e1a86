"""A service manager that keeps descriptors, as systemd does: it hears a service, and starts it with what it stored."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

__all__ = ["DescriptorKeeper", "until_waiting"]

LIMIT = 60.0
_FIRST = 3
_ACTIVATE = f"""
import fcntl, os, sys
count = int(sys.argv[1])
passed = [int(one) for one in sys.argv[2:2 + count]]
given = [fcntl.fcntl(one, fcntl.F_DUPFD, 1000) for one in passed]
for one in passed:
    os.close(one)
for number, one in enumerate(given, start={_FIRST}):
    os.dup2(one, number)
    os.close(one)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2 + count], sys.argv[2 + count:])
"""
"""As systemd starts a service: its own process number is the service's, and descriptors are numbers from 3 on."""


def until_waiting(descriptor: int, size: int) -> None:
    """Wait until so many bytes can be read from a terminal: the kernel brings them there in its own time."""
    end = time.monotonic() + LIMIT
    while struct.unpack("I", fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))[0] < size:
        assert time.monotonic() < end, f"{size} bytes did not come"
        time.sleep(0.005)


class DescriptorKeeper:
    """Keeps what a service has stored. A context manager; a thread of its own listens."""

    def __init__(self, path: Path, *, keeps: bool = True) -> None:
        """`path` is NOTIFY_SOCKET's. One that does not keep anything is as a unit without FileDescriptorStoreMax=."""
        self.path = path
        self._keeps = keeps
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._changed = threading.Condition()
        self._stored: dict[str, int] = {}
        self._heard: list[str] = []
        self._ending, self._end = os.pipe()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Self:
        self._socket.bind(str(self.path))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._end)
        self._thread.join(LIMIT)
        self._socket.close()
        os.close(self._ending)
        for descriptor in self._stored.values():
            os.close(descriptor)

    def until_stored(self, number: int) -> Mapping[str, int]:
        """Wait until so many descriptors are stored; which, by name."""
        self._until(lambda: len(self._stored) == number, f"{number} stored descriptors")
        return dict(self._stored)

    def until_heard(self, message: str) -> None:
        """Wait for a message that begins so, and forget it and those before."""

        def is_there() -> bool:
            while self._heard:
                if self._heard.pop(0).startswith(message):
                    return True
            return False

        self._until(is_there, message)

    def copies(self) -> dict[str, int]:
        """Copies of the stored descriptors, by name, for a process that begins."""
        with self._changed:
            return {name: os.dup(descriptor) for name, descriptor in self._stored.items()}

    def start(
        self,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        *sockets: socket.socket,
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Start a service with those sockets and what is stored."""
        with ExitStack() as stack:
            stored = self.copies()
            for descriptor in stored.values():
                stack.callback(os.close, descriptor)
            given = [*(one.fileno() for one in sockets), *stored.values()]
            ours = {
                "NOTIFY_SOCKET": str(self.path),
                "LISTEN_FDS": str(len(given)),
                "LISTEN_FDNAMES": ":".join([*("service.socket" for _ in sockets), *stored]),
            }
            return subprocess.Popen(
                [sys.executable, "-c", _ACTIVATE, str(len(given)), *map(str, given), *map(str, command)],
                env={**environment, **ours},
                pass_fds=given,
                text=True,
                **options,
            )

    def _until(self, is_true: Callable[[], bool], what: str) -> None:
        with self._changed:
            assert self._changed.wait_for(is_true, LIMIT), f"no {what}; stored {self._stored}"

    def _listen(self) -> None:
        while True:
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            poll.register(self._ending, 0)
            for descriptor in self._stored.values():
                poll.register(descriptor, 0)
            ready = dict(poll.poll())
            if self._ending in ready:
                return
            with self._changed:
                for name, descriptor in list(self._stored.items()):
                    if descriptor in ready:  # it has hung up
                        os.close(self._stored.pop(name))
                if self._socket.fileno() in ready:
                    self._take(*socket.recv_fds(self._socket, 4096, 8)[:2])
                self._changed.notify_all()

    def _take(self, data: bytes, descriptors: list[int]) -> None:
        message = data.decode()
        self._heard.append(message)
        lines = dict(line.partition("=")[::2] for line in message.splitlines())
        name = lines.get("FDNAME", "stored")
        if lines.get("FDSTOREREMOVE") == "1" and name in self._stored:
            os.close(self._stored.pop(name))
        for descriptor in descriptors:
            if self._keeps and lines.get("FDSTORE") == "1" and name not in self._stored:
                self._stored[name] = descriptor
            else:
                os.close(descriptor)
