"""The start of a controller: what it waits for, as reported to probes, to the service manager and in the log.

A controller that is started while the API server is unreachable does not exit. It waits, and serves as soon as it can.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus

import trio
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.process import ServiceManager
from jumpstarter_proto.tasks import collapsed

from jumpstarter_controller.process.http_pages import Page

__all__ = ["SIGNALS", "Startup"]

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that end a controller or a router, or make it reload files."""

EXTEND_SECONDS = 30.0
"""The interval in which the start time-out of the service manager is extended, each time by twice as much."""

_log = logging.getLogger(__name__)


class Startup:
    """What probes and the service manager are told about a controller, from its start to its end."""

    def __init__(self, signals: AsyncIterator[int]) -> None:
        """`signals` are all `SIGNALS` of the process, from its start to its end: one between two tasks waits."""
        self.signals = signals
        self.waits_for = ""
        """Why it does not serve yet, as a sentence; empty: it serves, or will in a moment."""
        self.status: Callable[[], str] = lambda: self.waits_for
        """For the service manager; who serves has more to say."""
        self.manager = ServiceManager(lambda: self.status())  # noqa: PLW0108 - it changes
        self.pages: dict[str, Callable[[], Awaitable[Page]]] = {
            "/healthz": self._healthy,
            "/readyz": self._ready,
        }
        """By path. Who serves has others."""

    def say(self, sentence: str) -> None:
        """Set the reason for waiting. It is logged once."""
        if sentence != self.waits_for:
            self.waits_for = sentence
            _log.warning("not ready: %s", sentence)

    async def run(self, work: Callable[[], Awaitable[object]]) -> ExitCode | None:
        """Run `work`. Returns the exit code if a signal ended it, else None."""
        code: ExitCode | None = None
        with collapsed():
            async with trio.open_nursery() as nursery:

                async def listen() -> None:
                    nonlocal code
                    while (number := await anext(self.signals)) == signal.SIGHUP:
                        pass  # there is nothing to be read again yet
                    code = ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.OK
                    nursery.cancel_scope.cancel()

                nursery.start_soon(listen)
                nursery.start_soon(self._extend)
                await work()
                nursery.cancel_scope.cancel()
        if code is None and self.waits_for:
            _log.warning("it can be served now")
            self.waits_for = ""
        return code

    async def _extend(self) -> None:
        while True:
            self.manager.starting(2 * EXTEND_SECONDS)
            await trio.sleep(EXTEND_SECONDS)

    async def _healthy(self) -> Page:
        return Page(b"ok\n")

    async def _ready(self) -> Page:
        sentence = self.waits_for or "it is starting"
        return Page(f"{sentence}\n".encode(), status=HTTPStatus.SERVICE_UNAVAILABLE)
