"""Run the async function of a command. A signal cancels it, so that it releases what it holds.

Releasing a lease may wait for a controller that does not answer. A second signal ends the process at once.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
from jumpstarter_proto.tasks import collapsed

__all__ = ["run_trio"]

T = TypeVar("T")
REPEAT_SECONDS = 1.0
"""A second signal within this time is ignored: the terminal and the parent process may both deliver one Ctrl-C."""


def run_trio(function: Callable[[], Awaitable[T]]) -> T:
    """Run `function` in a new event loop and return its result.

    Raises:
        KeyboardInterrupt: Ctrl-C cancelled it.
        SystemExit: SIGTERM or SIGHUP cancelled it.
    """
    found: list[T] = []
    received: list[int] = []
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN  # as under nohup
    ]

    async def main() -> None:
        with trio.open_signal_receiver(*numbers) as signals, collapsed():
            async with trio.open_nursery() as nursery:

                async def listen() -> None:
                    received.append(await anext(signals))
                    exit_now = _ExitNow()
                    for number in numbers:  # until the receiver restores the handlers
                        signal.signal(number, exit_now)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(listen)
                found.append(await function())
                nursery.cancel_scope.cancel()

    trio.run(main)
    if found:
        return found[0]
    if received[0] == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + received[0])


class _ExitNow:
    """The handler of further signals."""

    def __init__(self) -> None:
        self._not_before = time.monotonic() + REPEAT_SECONDS

    def __call__(self, number: int, _frame: object) -> None:
        if time.monotonic() < self._not_before:
            return
        os.write(
            2,
            b"\nstopped immediately; the lease was not released and stays active until it expires "
            b"(see: jumpstarter lease list)\n",
        )
        os._exit(128 + number)
