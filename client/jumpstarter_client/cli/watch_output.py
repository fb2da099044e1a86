"""The output of `--watch`: a table that is redrawn on a terminal, or one line per change for pipes and logs."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import trio
from jumpstarter_proto.remote import Backoff
from jumpstarter_proto.rpc import RpcError
from jumpstarter_proto.terminal import print_error_line, print_line, redraw_lines

from jumpstarter_client.controller.lab_snapshot import LabSnapshot
from jumpstarter_client.controller.watch import is_watch_unsupported, watch_lab
from jumpstarter_client.lease.lease import UNREACHABLE_CODES
from jumpstarter_client.status_line import is_live

if TYPE_CHECKING:
    from jumpstarter_proto.lab.v1.exporters_pb2 import WatchRequest

    from jumpstarter_client.controller.controller_client import ControllerCalls, ControllerClient

__all__ = ["Watched", "watch"]

T = TypeVar("T")
RETRY_SECONDS = 0.5, 10.0
"""The first and the longest pause between two attempts to watch."""
POLL_SECONDS = 2.0
"""The interval for controllers without Watch, such as Jumpstarter's own."""


@dataclass(frozen=True)
class Watched(Generic[T]):
    """What to watch, and how to print it."""

    request: WatchRequest
    of: Callable[[LabSnapshot], list[T]]
    """Select the items to print from a snapshot of the lab."""
    ask: Callable[[ControllerCalls], Awaitable[list[T]]]
    """Fetch the same items from a controller without Watch."""
    changes: Callable[[list[T] | None, list[T]], Iterator[tuple[str, dict[str, object]]]]
    """Yield a sentence and data for each changed item; for all items the first time, when there is no previous list."""
    table: Callable[[list[T]], str]


async def watch(controller: ControllerClient, watched: Watched[T], output: str | None) -> None:
    """Watch until cancelled, also through interruptions of the controller."""
    is_screen = not output and is_live(sys.stdout)
    show = _Screen(watched) if is_screen else _Lines(watched, as_json=output == "json")
    known = LabSnapshot()
    backoff = Backoff(*RETRY_SECONDS)

    def look() -> None:
        backoff.reset()
        show.show(watched.of(known))

    while True:
        try:
            if controller.supports_watch:
                await watch_lab(controller, watched.request, known, look, show.tick)
                continue
            async with controller.open() as calls:
                while trio.current_time() < calls.until:
                    show.show(await watched.ask(calls))
                    backoff.reset()
                    await trio.sleep(POLL_SECONDS)
        except RpcError as error:
            if controller.supports_watch and is_watch_unsupported(error):
                controller.supports_watch = False
                continue
            if error.code not in UNREACHABLE_CODES or not show.has_shown:
                raise
            show.away(error.details)
        await trio.sleep(backoff.next())


class _Lines(Generic[T]):
    """Prints one line per change."""

    def __init__(self, watched: Watched[T], *, as_json: bool) -> None:
        self._watched = watched
        self._as_json = as_json
        self._seen: list[T] | None = None
        self._is_away = False

    @property
    def has_shown(self) -> bool:
        return self._seen is not None

    def show(self, found: list[T]) -> None:
        if self._is_away:
            self._is_away = False
            self._note("the controller is reachable again")
        stamp = time.strftime("%H:%M:%S")
        for sentence, data in self._watched.changes(self._seen, found):
            print_line(json.dumps(data) if self._as_json else f"{stamp} {sentence}")
        sys.stdout.flush()
        self._seen = found

    def tick(self) -> None:
        """Do nothing: time alone is not a change."""

    def away(self, why: str) -> None:
        if not self._is_away:
            self._is_away = True
            self._note(f"the controller is unreachable ({why}); waiting for it")

    def _note(self, sentence: str) -> None:
        print_error_line(f"{time.strftime('%H:%M:%S')} {sentence}")


class _Screen(Generic[T]):
    """Redraws a table in place."""

    def __init__(self, watched: Watched[T]) -> None:
        self._watched = watched
        self._drawn = 0
        self._found: list[T] | None = None
        self._table = ""

    @property
    def has_shown(self) -> bool:
        return self._found is not None

    def show(self, found: list[T]) -> None:
        self._found = found
        self._table = self._watched.table(found)
        self._draw(f"{time.strftime('%H:%M:%S')}  Ctrl-C ends this")

    def tick(self) -> None:
        """Redraw if the remaining times have changed."""
        if self._found is not None and self._watched.table(self._found) != self._table:
            self.show(self._found)

    def away(self, why: str) -> None:
        self._draw(f"{time.strftime('%H:%M:%S')}  the controller is unreachable ({why}); waiting for it")

    def _draw(self, last: str) -> None:
        size = shutil.get_terminal_size()
        lines = [*self._table.splitlines()[: max(1, size.lines - 2)], last]
        redraw_lines(lines, sys.stdout, above=self._drawn, width=size.columns - 1)
        self._drawn = len(lines)
