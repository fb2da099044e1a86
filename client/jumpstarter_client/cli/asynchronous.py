"""Commands that are one trio run: a signal to end cancels them, and what they hold is given back first.

A second one ends them at once: a controller that does not answer is waited for, for its boards' sake, but nobody
has to wait longer than they like.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

import trio

from jumpstarter_client.blocking import collapse

__all__ = ["run"]

T = TypeVar("T")


def run(function: Callable[[], Awaitable[T]]) -> T:
    """The function's result. With a second signal the process ends.

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
        with trio.open_signal_receiver(*numbers) as signals, collapse():
            async with trio.open_nursery() as nursery:

                async def listen() -> None:
                    told.append(await anext(signals))
                    for number in numbers:  # until the receiver puts back what was there
                        signal.signal(number, _end_at_once)
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


def _end_at_once(number: int, _frame: object) -> NoReturn:
    os.write(
        2, b"\nended at once; what it had leased may stay so until its time is over: jumpstarter lease list\n"
    )
    os._exit(128 + number)
