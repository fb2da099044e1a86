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

from jumpstarter_proto.numbers import find_number
from jumpstarter_proto.texts import shown

__all__ = ["MAX_STATUS_LENGTH", "STATUS_SECONDS", "ServiceManager"]

STATUS_SECONDS = 2.0
"""The interval in which the status is checked for changes."""
MAX_STATUS_LENGTH = 500
"""Characters; systemd reads 4 KiB of a message at most."""
STDERR = 2
MIN_PING_SECONDS = 0.01
"""No daemon can keep a shorter watchdog timeout, and the attempt would use a whole processor."""
SEND_SECONDS = 1.0
"""How long a state message waits for room in the queue of systemd; a status does not wait."""

_log = logging.getLogger(__name__)


class ServiceManager:
    """The service manager that started this process, if it expects notifications.

    No method raises, so a daemon continues if systemd does not answer.
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
        timeout = find_number(microseconds) or 0
        is_watched = timeout > 0 and process == str(os.getpid())
        self.watchdog_seconds = timeout / 1_000_000 if is_watched else math.inf
        """The watchdog timeout: without a notification for this long, the process is killed."""
        if is_watched and not faulthandler.is_enabled():
            # The watchdog ends it by SIGABRT: the log then says what it was doing.
            faulthandler.enable(file=STDERR)
        self._status = status
        self._sent_status = ""
        self._is_failing = False

    def starting(self, seconds: float) -> None:
        """The process is still starting, and extends its start timeout by these seconds."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}", *self._new_status())

    def ready(self) -> None:
        """The process is ready."""
        self._send("READY=1", *self._new_status())

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """The process reloads its files during the block, and is ready after it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            self.ready()

    def stopping(self) -> None:
        """The process is stopping."""
        self._send("STOPPING=1")

    def store(self, name: str, descriptor: int) -> bool:
        """Store a copy of a descriptor for the next start; False if systemd could not be notified.

        A terminal that hangs up, as one that is unplugged, leaves the store by itself (so FDPOLL= stays on). Blocks for
        `SEND_SECONDS` at most.
        """
        return self._send("FDSTORE=1", f"FDNAME={name}", descriptors=[descriptor])

    def forget(self, name: str) -> None:
        """Remove all stored descriptors with that name."""
        self._send("FDSTOREREMOVE=1", f"FDNAME={name}")

    async def run(self) -> None:
        """Send watchdog notifications and changes of the status, until cancelled.

        Watchdog notifications are sent only here, so a blocked event loop sends none.
        """
        if not self._address:
            return
        period = max(self.watchdog_seconds / 2, MIN_PING_SECONDS)
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
