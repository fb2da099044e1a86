"""Tells systemd how the process is: sd_notify(3) and sd_watchdog_enabled(3).

Without systemd, or with a unit that is not of Type=notify, all of it does nothing. What the environment says of it is
removed there, so that no program which a daemon starts speaks in its name.
"""

from __future__ import annotations

import faulthandler
import logging
import math
import os
import socket
import time
from array import array
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager

import trio

from jumpstarter_proto.texts import shown

__all__ = ["MAX_STATUS_LENGTH", "STATUS_SECONDS", "ServiceManager"]

STATUS_SECONDS = 2.0
"""Between two looks at what the status is."""
MAX_STATUS_LENGTH = 500
"""Characters; systemd reads 4 KiB of a message at most."""
STDERR = 2
SEND_SECONDS = 1.0
"""A message about the state of the process waits so long for room in systemd's queue; a status does not wait."""

_log = logging.getLogger(__name__)


class ServiceManager:
    """The service manager that started this process, if one did and wants to hear of it.

    No method raises: a daemon goes on when systemd does not listen.
    """

    def __init__(
        self, status: Callable[[], str] = lambda: "", environment: MutableMapping[str, str] = os.environ
    ) -> None:
        """`status` is a sentence about what the process does, for `systemctl status`; it is called often."""
        address = environment.pop("NOTIFY_SOCKET", "")
        microseconds = environment.pop("WATCHDOG_USEC", "")
        process = environment.pop("WATCHDOG_PID", "") or str(os.getpid())
        environment.pop("FDSTORE", None)
        self._address = address.replace("@", "\0", 1) if address[:1] in ("@", "/") else ""
        if address and not self._address:
            _log.warning("systemd cannot be notified at %s; only unix sockets are supported", shown(address))
        is_watched = microseconds.isdecimal() and int(microseconds) > 0 and process == str(os.getpid())
        self.watchdog_seconds = int(microseconds) / 1_000_000 if is_watched else math.inf
        """The process is killed if it says nothing for so long."""
        if is_watched and not faulthandler.is_enabled():
            # The watchdog ends it by SIGABRT: the log then says what it was doing.
            faulthandler.enable(file=STDERR)
        self._status = status
        self._sent_status = ""
        self._is_failing = False

    def starting(self, seconds: float) -> None:
        """It does not serve yet, and works on it: it may take so many seconds more."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}", *self._new_status())

    def ready(self) -> None:
        """It listens."""
        self._send("READY=1", *self._new_status())

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """It reads its files again for the block, and is ready after it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            self.ready()

    def stopping(self) -> None:
        """It has begun to end."""
        self._send("STOPPING=1")

    def store(self, name: str, descriptor: int) -> bool:
        """Have a copy of a descriptor kept until the next start, which is given it; False if that was not said.

        A terminal that hangs up, as one that is unplugged, leaves the store by itself (so FDPOLL= stays on). Blocks for
        `SEND_SECONDS` at most.
        """
        return self._send("FDSTORE=1", f"FDNAME={name}", descriptors=[descriptor])

    def forget(self, name: str) -> None:
        """Have all copies of that name closed."""
        self._send("FDSTOREREMOVE=1", f"FDNAME={name}")

    async def run(self) -> None:
        """Until cancelled, say that the event loop runs, and what the status is when that changes.

        The watchdog is fed here and nowhere else: an event loop that is blocked is silent.
        """
        if not self._address:
            return
        period = self.watchdog_seconds / 2
        ping = trio.current_time()
        look = ping + STATUS_SECONDS
        while True:
            now = trio.current_time()
            if now >= ping and period < math.inf:
                self._send("WATCHDOG=1", seconds=0)
                ping = now + period
            if now >= look:
                if status := self._new_status():
                    self._send(*status, seconds=0)
                look = now + STATUS_SECONDS
            await trio.sleep_until(min(look, ping if period < math.inf else math.inf))

    def _new_status(self) -> list[str]:
        # On one line: what a peer wrote in it cannot be a message of its own.
        text = shown(self._status(), MAX_STATUS_LENGTH)
        if text == self._sent_status:
            return []
        self._sent_status = text
        return [f"STATUS={text}"]

    def _send(self, *lines: str, seconds: float = SEND_SECONDS, descriptors: Sequence[int] = ()) -> bool:
        """Whether it was sent."""
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(seconds)
                rights = (
                    [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
                )
                sender.sendmsg(["\n".join(lines).encode()], rights, 0, self._address)
        except OSError as error:
            if not self._is_failing:
                _log.warning("systemd cannot be notified: %s", error)
            self._is_failing = True
            return False
        self._is_failing = False
        return True
