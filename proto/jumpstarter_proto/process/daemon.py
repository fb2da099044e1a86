"""A daemon as its signals and its service manager see it, from its start to its end.

SIGTERM and SIGINT end it in order, a second one ends it at once; SIGHUP makes it reload its files.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.process.service_manager import ServiceManager
from jumpstarter_proto.tasks import collapsed

__all__ = ["Daemon", "exit_code_of", "open_daemon"]


class Daemon:
    """This process as a daemon. One task at a time waits for its signals."""

    def __init__(self, signals: AsyncIterator[int]) -> None:
        """See `open_daemon`, which handles the signals."""
        self._signals = signals
        self.status: Callable[[], str] = lambda: ""
        """A sentence about what the daemon does, for `systemctl status`; it is called often."""
        self.manager = ServiceManager(lambda: self.status())  # noqa: PLW0108 - it changes

    async def wait_for_stop(self, reload: Callable[[], Awaitable[object]] | None = None) -> signal.Signals:
        """Wait for SIGTERM or SIGINT, and return it.

        Each SIGHUP starts `reload` in a task; without `reload` it is ignored. A reload that still runs at the end is
        cancelled. After a cancellation, later signals are kept for the next wait.

        Raises:
            Exception: what a reload raises.
        """
        with collapsed():
            async with trio.open_nursery() as nursery:
                while (number := await anext(self._signals)) == signal.SIGHUP:
                    if reload is not None:
                        nursery.start_soon(reload)
                nursery.cancel_scope.cancel()
        return signal.Signals(number)


@contextmanager
def open_daemon() -> Iterator[Daemon]:
    """Handle the signals of this process in the block, which runs in the main thread of trio."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        yield Daemon(signals)


def exit_code_of(number: signal.Signals | None) -> ExitCode:
    """Return the exit code of a daemon that ended in order, after this signal or, if None, by itself."""
    return ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.OK
