"""The start of a controller: what it waits for, as reported to probes, to the service manager and in the log.

A controller that is started while the API server is unreachable does not exit. It waits, and serves as soon as it can.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import trio
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.process import Daemon, exit_code_of
from jumpstarter_proto.tasks import collapsed

from jumpstarter_controller.process.http_pages import Page

__all__ = ["Startup"]

EXTEND_SECONDS = 30.0
"""The interval in which the start time-out of the service manager is extended, each time by twice as much."""

_log = logging.getLogger(__name__)


class Startup:
    """The state of a controller for probes and the service manager, from its start to its end."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.waits_for = ""
        """Why it does not serve yet, as a sentence; empty: it serves, or will in a moment."""
        daemon.status = lambda: self.waits_for
        self.pages: dict[str, Callable[[], Awaitable[Page]]] = {
            "/healthz": self._healthy,
            "/readyz": self._ready,
        }
        """The pages by path until the controller serves."""

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
                    code = exit_code_of(await self.daemon.wait_for_stop())
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
            self.daemon.manager.starting(2 * EXTEND_SECONDS)
            await trio.sleep(EXTEND_SECONDS)

    async def _healthy(self) -> Page:
        return Page(b"ok\n")

    async def _ready(self) -> Page:
        sentence = self.waits_for or "it is starting"
        return Page(f"{sentence}\n".encode(), status=HTTPStatus.SERVICE_UNAVAILABLE)
