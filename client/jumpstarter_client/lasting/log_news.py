"""Which entries of a log that was opened again have been seen before. No I/O.

A session's log begins at its start for each reader, as far back as the exporter keeps it.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TypeAlias

from jumpstarter_proto.v1.jumpstarter_pb2 import LogStreamResponse

__all__ = ["REMEMBERED", "LogNews"]

REMEMBERED = 2048
"""Entries; twice what an exporter keeps. Each has a bound of its own (`logs.entry_of`)."""

_Key: TypeAlias = tuple[int, int, str, str]


class LogNews:
    """Remembers the last entries."""

    def __init__(self) -> None:
        self._shown: deque[_Key] = deque(maxlen=REMEMBERED)
        self._repeats: Counter[_Key] = Counter()

    def reopened(self) -> None:
        """From here on the log may say again what it has said."""
        self._repeats = Counter(self._shown)

    def is_new(self, entry: LogStreamResponse) -> bool:
        """Whether to show it. An entry without a time cannot be told from its like, and is shown."""
        if not entry.HasField("timestamp"):
            return True
        key = entry.timestamp.seconds, entry.timestamp.nanos, entry.severity, entry.message
        if self._repeats[key]:
            self._repeats[key] -= 1
            return False
        self._shown.append(key)
        return True
