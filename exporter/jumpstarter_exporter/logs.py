"""The log that users follow: every reader gets every entry, and nobody's slowness costs anybody memory.

One bounded ring holds the last entries for all readers. A reader that falls behind the ring's tail is told
how many entries it missed, in an entry of its own.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio
from google.protobuf import timestamp_pb2
from jumpstarter_proto.v1 import common_pb2, jumpstarter_pb2

__all__ = ["KEPT", "BroadcastHandler", "BroadcastLog", "Entry", "Reader"]

KEPT = 1024
"""Entries that a slow reader may be behind."""

MAX_RECORD_LENGTH = 64 * 1024
"""Characters of one record that are sent; `KEPT` of them stay in memory."""
MAX_RECORD_LENGTH = 256 * 1024
MAX_LINES = 200
MAX_LINE_LENGTH = 16 * 1024
"""Of one log record, in characters: a driver may be anybody's, and every reader gets all of it."""

DRIVERS = "driver"
"""Loggers below this one are drivers'; all others but those of hooks are the system's."""
_SYSTEM = common_pb2.LOG_SOURCE_SYSTEM
_HOOKS: dict[str, common_pb2.LogSource] = {
    "hook.beforeLease": common_pb2.LOG_SOURCE_BEFORE_LEASE_HOOK,
    "hook.afterLease": common_pb2.LOG_SOURCE_AFTER_LEASE_HOOK,
}


@dataclass(frozen=True)
class Entry:
    """One line."""

    message: str
    severity: str = "INFO"
    source: common_pb2.LogSource = common_pb2.LOG_SOURCE_SYSTEM
    time: float = 0.0
    """Seconds since the epoch."""
    driver_type: str = ""

    def to_wire(self) -> jumpstarter_pb2.LogStreamResponse:
        """As LogStream sends it."""
        seconds, nanos = divmod(round(self.time * 1_000_000_000), 1_000_000_000)
        return jumpstarter_pb2.LogStreamResponse(
            uuid="",
            severity=self.severity,
            message=self.message,
            source=self.source,
            driver_type=self.driver_type or None,
            timestamp=timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos),
        )


@dataclass(eq=False)
class Reader:
    """One follower. Iterate it; it never ends by itself."""

    log: BroadcastLog
    position: int
    """Number of the next entry, counted from the log's first."""
    _wake: trio.Event = field(default_factory=trio.Event)

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> Entry:
        while True:
            wake = self._wake
            entry = self.log.take(self)
            if entry is not None:
                await trio.lowlevel.checkpoint()
                return entry
            await wake.wait()

    def wake(self) -> None:
        """There is something new."""
        self._wake.set()
        self._wake = trio.Event()


class BroadcastLog:
    """Append from any thread, read in the trio loop that made it."""

    def __init__(self, kept: int = KEPT) -> None:
        self._ring: deque[Entry] = deque(maxlen=kept)
        self._count = 0
        self._lock = threading.Lock()
        self._readers: set[Reader] = set()
        self._token = trio.lowlevel.current_trio_token()

    def append(self, entry: Entry) -> None:
        """Add an entry; what falls out of the ring is lost to readers that have not read it."""
        with self._lock:
            self._ring.append(entry)
            self._count += 1
            if not self._readers:
                return
        try:
            self._token.run_sync_soon(self._wake_readers, idempotent=True)
        except trio.RunFinishedError:
            return  # a thread that outlives the loop; there is nobody left to read

    @contextmanager
    def reader(self, *, from_start: bool = False) -> Iterator[Reader]:
        """Follow for the block: from now on, or from the oldest entry that is kept."""
        with self._lock:
            reader = Reader(self, self._count - (len(self._ring) if from_start else 0))
            self._readers.add(reader)
        try:
            yield reader
        finally:
            with self._lock:
                self._readers.discard(reader)

    def take(self, reader: Reader) -> Entry | None:
        """The reader's next entry, or None when it has read them all."""
        with self._lock:
            oldest = self._count - len(self._ring)
            if reader.position < oldest:
                dropped = oldest - reader.position
                reader.position = oldest
                return Entry(
                    f"{dropped} entries dropped, this reader is too slow", "WARNING", time=self._ring[0].time
                )
            if reader.position == self._count:
                return None
            entry = self._ring[reader.position - oldest]
            reader.position += 1
            return entry

    def _wake_readers(self) -> None:
        for reader in self._readers:
            reader.wake()


class BroadcastHandler(logging.Handler):
    """Puts the process's log records into a broadcast log, one entry a line.

    The system's own debugging stays out: it says what goes over the wire, secrets included, and an entry about
    the sending of an entry would never end.
    """

    def __init__(self, log: BroadcastLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Append; a record that cannot be formatted is reported where logging reports such."""
        top, _, driver = record.name.partition(".")
        from_driver = top == DRIVERS
        if not from_driver and record.levelno < logging.INFO:
            return
        try:
            message = record.getMessage()
        except Exception:  # logging's contract: a bad log call must not fail its caller
            self.handleError(record)
            return
        # What no UTF-8 can say would end the stream of everybody who follows the log.
        message = message[:MAX_RECORD_LENGTH].encode(errors="backslashreplace").decode()
        source = common_pb2.LOG_SOURCE_DRIVER if from_driver else _HOOKS.get(record.name, _SYSTEM)
        message = message[:MAX_RECORD_LENGTH].encode(errors="replace").decode()
        for line in message.splitlines()[:MAX_LINES] or [""]:
            self._log.append(
                Entry(
                    line[:MAX_LINE_LENGTH],
                    record.levelname,
                    source,
                    record.created,
                    driver if from_driver else "",
                )
            )
