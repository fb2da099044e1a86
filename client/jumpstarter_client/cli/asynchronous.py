"""Commands that are one trio run: a signal to end cancels them, and what they hold is given back first."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from jumpstarter_client.blocking import collapse

__all__ = ["run"]

T = TypeVar("T")


def run(function: Callable[[], Awaitable[T]]) -> T:
    """The function's result.

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
