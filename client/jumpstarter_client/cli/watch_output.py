"""What `--watch` shows: a table that is drawn again in its place, or a line for each change, for pipes and logs."""

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
from jumpstarter_client.progress import is_live

if TYPE_CHECKING:
    from jumpstarter_proto.lab.v1.exporters_pb2 import WatchRequest

    from jumpstarter_client.controller.controller_client import ControllerCalls, ControllerClient

__all__ = ["Watched", "watch"]

T = TypeVar("T")
LOOK_SECONDS = 2.0
"""Where the controller does not tell what has changed, as Jumpstarter's."""


@dataclass(frozen=True)
class Watched(Generic[T]):
    """What is watched, and how it looks."""

    request: WatchRequest
    of: Callable[[LabSnapshot], list[T]]
    """What is to be shown of what the controller has told."""
    ask: Callable[[ControllerCalls], Awaitable[list[T]]]
    """The same from one that has to be asked."""
    changes: Callable[[list[T] | None, list[T]], Iterator[tuple[str, dict[str, object]]]]
    """A sentence and data for each that is not as it was; at first, when there was None, for all."""
    table: Callable[[list[T]], str]


async def watch(controller: ControllerClient, watched: Watched[T], output: str | None) -> None:
    """Until cancelled; the controller may go away and come back."""
    is_screen = not output and is_live(sys.stdout)
    show = _Screen(watched) if is_screen else _Lines(watched, as_json=output == "json")
    known = LabSnapshot()
    backoff = Backoff(0.5, 10.0)

    def look() -> None:
        backoff.reset()
        show.show(watched.of(known))

    while True:
        try:
            if controller.tells:
                await watch_lab(controller, watched.request, known, look, show.tick)
                continue
            async with controller.open() as calls:
                while trio.current_time() < calls.until:
                    show.show(await watched.ask(calls))
                    backoff.reset()
                    await trio.sleep(LOOK_SECONDS)
        except RpcError as error:
            if controller.tells and is_watch_unsupported(error):
                controller.tells = False
                continue
            if error.code not in UNREACHABLE_CODES or not show.has_shown:
                raise
            show.away(error.details)
        await trio.sleep(backoff.next())


class _Lines(Generic[T]):
    """A line for each change."""

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
        """Time alone is no change."""

    def away(self, why: str) -> None:
        if not self._is_away:
            self._is_away = True
            self._note(f"the controller is unreachable ({why}); waiting for it")

    def _note(self, sentence: str) -> None:
        print_error_line(f"{time.strftime('%H:%M:%S')} {sentence}")


class _Screen(Generic[T]):
    """A table that is drawn again in its place."""

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
        """What is left of a time may be less."""
        if self._found is not None and self._watched.table(self._found) != self._table:
            self.show(self._found)

    def away(self, why: str) -> None:
        self._draw(f"{time.strftime('%H:%M:%S')}  the controller is unreachable ({why}); waiting for it")

    def _draw(self, last: str) -> None:
        size = shutil.get_terminal_size()
        lines = [*self._table.splitlines()[: max(1, size.lines - 2)], last]
        redraw_lines(lines, sys.stdout, above=self._drawn, width=size.columns - 1)
        self._drawn = len(lines)
