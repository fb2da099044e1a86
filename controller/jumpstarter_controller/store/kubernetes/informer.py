"""What one kind of object does, as a watch tells it: a state machine without I/O.

A watch goes on from a resource version. When it ends it is asked for again from the last version that was heard of;
bookmarks bring that forward where nothing happens. When the server does not know that version any more, whoever follows
has to list everything anew, and the informer begins again from there.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Iterator
from typing import Any

from jumpstarter_proto.json_texts import decode_json

from jumpstarter_controller.store.contract import StoreEvent
from jumpstarter_controller.store.kubernetes.fields import Object, dig

__all__ = ["Informer", "InformerState"]

WATCH_SECONDS = 60.0
"""The server ends each watch after this time, so that a dead connection is noticed soon after it."""
SILENCE_SECONDS = 15.0
"""If the watch has not ended this much later, the connection is dead."""
FIRST_PAUSE_SECONDS = 0.1
MAX_PAUSE_SECONDS = 5.0
MAX_LINE_BYTES = 16 * 1024 * 1024
"""Objects in etcd have at most 1.5 MiB."""
TOLERATED_FAILURES = 2
"""From this number of failures in a row on they are reported. A restarted API server may reject one watch."""
GONE = 410


class InformerState(enum.Enum):
    """The next action."""

    WATCHING = "watching"
    """Ask for a watch, or read on."""
    BEHIND = "behind"
    """List everything, and `begin` from there."""


class Informer:
    """Feed it what comes, tell it when that ends."""

    def __init__(self, version: int, event: Callable[[str, Object], StoreEvent | None]) -> None:
        """`event` makes one of a watch's event type and its object, or nothing."""
        self.state = InformerState.WATCHING
        self.version = version
        """The last resource version that was received."""
        self.trouble = ""
        """Why there is no watch; empty: there is one, or the next attempt may succeed."""
        self._event = event
        self._rest = b""
        self._failures = 0
        self._is_told = False
        self._pause = FIRST_PAUSE_SECONDS

    def query(self) -> dict[str, str]:
        """Of the request for a watch. What was half read before is forgotten."""
        self._rest = b""
        self._is_told = False
        return {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": str(self.version),
            "timeoutSeconds": str(int(WATCH_SECONDS)),
        }

    def opened(self) -> None:
        """The server has answered that it will tell."""
        self.trouble = ""

    def feed(self, piece: bytes) -> Iterator[StoreEvent]:
        """Parse bytes of the watch, and return their events.

        Raises:
            ValueError: they are no watch's; the connection has to be closed.
        """
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise ValueError("a line of the watch is too long")
        for line in lines:
            if line.strip() and self.state is InformerState.WATCHING:
                yield from self._line(decode_json(line, dict[str, Any]))

    def _line(self, line: Object) -> Iterator[StoreEvent]:
        kind, item = line.get("type"), line.get("object")
        if not isinstance(kind, str) or not isinstance(item, dict):
            raise ValueError("a line of the watch has no type or no object")  # noqa: TRY004 - it is data
        if kind == "ERROR":
            self._refused(item.get("code"), str(item.get("message", "")))
            return
        version = int(str(dig(item, "metadata", "resourceVersion")))
        self._failures = 0
        self._is_told = True
        self._pause = FIRST_PAUSE_SECONDS
        if kind != "BOOKMARK" and (event := self._event(kind, item)) is not None:
            yield event
        self.version = max(self.version, version)

    def refused(self, status: int, message: str, retry_seconds: float | None = None) -> float:
        """The server answered with an error. Returns the seconds until the next attempt."""
        self._refused(status, message)
        return self.ended(retry_seconds)

    def failed(self, message: str) -> float:
        """The server cannot be reached, or the connection broke. Returns the seconds until the next attempt."""
        self._failures += 1
        if self._failures >= TOLERATED_FAILURES:
            self.trouble = message
        return self.ended()

    def ended(self, retry_seconds: float | None = None) -> float:
        """The watch has ended. Returns the seconds until the next attempt; 0 if the watch has received something."""
        if self._is_told and not self._failures:
            return 0.0
        pause = min(retry_seconds, MAX_PAUSE_SECONDS) if retry_seconds else self._pause
        self._pause = min(self._pause * 2, MAX_PAUSE_SECONDS)
        return pause * random.uniform(0.8, 1.2)  # noqa: S311 - so that replicas do not ask all at once

    def _refused(self, status: object, message: str) -> None:
        if status == GONE:
            self.state = InformerState.BEHIND
            return
        self._failures += 1
        if self._failures >= TOLERATED_FAILURES:
            self.trouble = message
