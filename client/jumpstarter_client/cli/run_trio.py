"""Commands that are one trio run: a signal to end cancels them, and what they hold is given back first.

A second one ends them at once: a controller that does not answer is waited for, for its boards' sake, but nobody
has to wait longer than they like.
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

__all__ = ["run"]

T = TypeVar("T")
SAME_SECONDS = 1.0
"""A terminal and whoever started us may both pass on the same Ctrl-C."""


def run(function: Callable[[], Awaitable[T]]) -> T:
    """The function's result. With a second signal, a second after the first, the process ends.

    Raises:
        KeyboardInterrupt: Ctrl-C ended it.
        SystemExit: SIGTERM or SIGHUP did.
    """
    found: list[T] = []
    told: list[int] = []
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN  # as under nohup
    ]

    async def main() -> None:
        with trio.open_signal_receiver(*numbers) as signals, collapsed():
            async with trio.open_nursery() as nursery:

                async def listen() -> None:
                    told.append(await anext(signals))
                    end_at_once = _EndAtOnce()
                    for number in numbers:  # until the receiver puts back what was there
                        signal.signal(number, end_at_once)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(listen)
                found.append(await function())
                nursery.cancel_scope.cancel()

    trio.run(main)
    if found:
        return found[0]
    if told[0] == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + told[0])


class _EndAtOnce:
    """The handler of a second signal."""

    def __init__(self) -> None:
        self._not_before = time.monotonic() + SAME_SECONDS

    def __call__(self, number: int, _frame: object) -> None:
        if time.monotonic() < self._not_before:
            return
        os.write(
            2,
            b"\nended at once; what it had leased may stay so until its time is over: jumpstarter lease list\n",
        )
        os._exit(128 + number)
