"""The logs that users follow: one for each session, with the host's messages about its board.

The context decides where a log record goes (`SessionLog.bound`, `BoardLog.bound`): records of a call, a hook and what
a driver starts in them go to their session, and records of the host's work for a board to all sessions of that board.
Records without such a context, for example of a driver's own threads, go only to the host's log. Every reader gets
every entry. Memory is bounded: one ring holds the last entries of a session for all of its readers. A reader that
falls behind gets an entry that says how many entries it missed.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

import trio
from google.protobuf import timestamp_pb2
from jumpstarter_proto.log_lines import NOTICE
from jumpstarter_proto.notifications import Broadcast
from jumpstarter_proto.v1 import common_pb2, jumpstarter_pb2

__all__ = [
    "MAX_ENTRIES",
    "BoardLog",
    "LogEntry",
    "LogReader",
    "NameBoard",
    "SessionLog",
    "dispatching",
    "unbind",
]

MAX_ENTRIES = 1024
"""Entries that a slow reader may be behind."""

MAX_RECORD_LENGTH = 256 * 1024
MAX_LINES = 200
MAX_LINE_LENGTH = 16 * 1024
"""Limits of one log record in characters: drivers can log anything, and every reader gets all of it."""

DRIVERS = "driver"
"""Drivers' loggers are below this one; all others except those of hooks are the system's."""
_SYSTEM = common_pb2.LOG_SOURCE_SYSTEM
_HOOKS: dict[str, common_pb2.LogSource] = {
    "hook.beforeLease": common_pb2.LOG_SOURCE_BEFORE_LEASE_HOOK,
    "hook.afterLease": common_pb2.LOG_SOURCE_AFTER_LEASE_HOOK,
}


@dataclass(frozen=True)
class LogEntry:
    """One line."""

    message: str
    severity: str = "INFO"
    source: common_pb2.LogSource = common_pb2.LOG_SOURCE_SYSTEM
    time: float = 0.0
    """Seconds since the epoch."""
    driver_type: str = ""
    is_notice: bool = False
    """The session's users should read it."""

    def to_wire(self) -> jumpstarter_pb2.LogStreamResponse:
        """The message of LogStream."""
        seconds, nanos = divmod(round(self.time * 1_000_000_000), 1_000_000_000)
        return jumpstarter_pb2.LogStreamResponse(
            uuid="",
            severity=self.severity,
            message=self.message,
            source=self.source,
            driver_type=self.driver_type or None,
            timestamp=timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos),
            structured_fields={NOTICE: "1"} if self.is_notice else None,
        )


@dataclass(eq=False)
class LogReader:
    """An endless iterator over a session's entries."""

    log: SessionLog
    position: int
    """Number of the next entry, counted from the log's first."""
    _added: Broadcast = field(default_factory=Broadcast)

    def __aiter__(self) -> LogReader:
        return self

    async def __anext__(self) -> LogEntry:
        while True:
            added = self._added.next
            entry = self.log.take(self)
            if entry is not None:
                await trio.lowlevel.checkpoint()
                return entry
            await added.wait()

    def wake(self) -> None:
        """Wake the reader: there is a new entry."""
        self._added.notify()


class _Target(Protocol):
    @property
    def board(self) -> str: ...
    def append(self, entry: LogEntry) -> None: ...


_target: ContextVar[_Target | None] = ContextVar("the log that records go to", default=None)


@contextmanager
def _bound(target: _Target) -> Iterator[None]:
    token = _target.set(target)
    try:
        yield
    finally:
        _target.reset(token)


def unbind() -> None:
    """Detach the rest of the task, and tasks that it starts, from every board's log."""
    _target.set(None)


class BoardLog:
    """The host's messages about one board; they go to all of its current sessions."""

    def __init__(self, board: str = "") -> None:
        """`board` is its name."""
        self.board = board
        self._sessions: tuple[SessionLog, ...] = ()

    def append(self, entry: LogEntry) -> None:
        """Add an entry, from any thread."""
        for session in self._sessions:
            session.append(entry)

    @contextmanager
    def heard_by(self, session: SessionLog) -> Iterator[None]:
        """Pass entries to a session during the block."""
        self._sessions = (*self._sessions, session)
        try:
            yield
        finally:
            self._sessions = tuple(log for log in self._sessions if log is not session)

    def bound(self) -> AbstractContextManager[None]:
        """What is logged in the block, and in tasks and calls that it starts, goes here."""
        return _bound(self)


class SessionLog:
    """One session's log. Append from any thread; read in the trio loop that created it."""

    def __init__(self, kept: int = MAX_ENTRIES, *, board: str = "") -> None:
        """`board` is the name of its board."""
        self.board = board
        self._ring: deque[LogEntry] = deque(maxlen=kept)
        self._count = 0
        self._lock = threading.Lock()
        self._readers: set[LogReader] = set()
        self._token = trio.lowlevel.current_trio_token()

    def bound(self) -> AbstractContextManager[None]:
        """What is logged in the block, and in tasks and calls that it starts, goes here."""
        return _bound(self)

    def bind(self) -> None:
        """The same for the rest of a task."""
        _target.set(self)

    def append(self, entry: LogEntry) -> None:
        """Add an entry. Readers that are too slow miss the oldest ones."""
        with self._lock:
            self._ring.append(entry)
            self._count += 1
            if not self._readers:
                return
        try:
            self._token.run_sync_soon(self._wake_readers, idempotent=True)
        except trio.RunFinishedError:
            return  # a thread outlives the loop; no reader is left

    @contextmanager
    def reader(self, *, from_start: bool = False) -> Iterator[LogReader]:
        """Read during the block: from now on, or from the oldest entry that is kept."""
        with self._lock:
            reader = LogReader(self, self._count - (len(self._ring) if from_start else 0))
            self._readers.add(reader)
        try:
            yield reader
        finally:
            with self._lock:
                self._readers.discard(reader)

    def take(self, reader: LogReader) -> LogEntry | None:
        """The reader's next entry; None if it has read all."""
        with self._lock:
            oldest = self._count - len(self._ring)
            if reader.position < oldest:
                dropped = oldest - reader.position
                reader.position = oldest
                return LogEntry(
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


@contextmanager
def dispatching() -> Iterator[None]:
    """Pass log records to the logs of their contexts during the block. One handler serves all blocks."""
    global _blocks  # noqa: PLW0603 - counts the users of the process's only handler
    root = logging.getLogger()
    with _lock:
        _blocks += 1
        root.addHandler(_dispatcher)  # adding a handler twice has no effect
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if not _blocks:
                root.removeHandler(_dispatcher)


class _Dispatcher(logging.Handler):
    """Puts each log record into the log of its context, one entry per line.

    The system's own debug messages are left out: they contain what is sent, including secrets, and sending an entry
    would log another one.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Append a record. Formatting errors are reported in logging's usual way."""
        target = _target.get()
        if target is None:
            return
        top, _, driver = record.name.partition(".")
        from_driver = top == DRIVERS
        if not from_driver and record.levelno < logging.INFO:
            return
        try:
            message = record.getMessage()
        except Exception:  # logging's contract: a wrong log call must not fail its caller
            self.handleError(record)
            return
        # Text that cannot be encoded as UTF-8 would end the streams of all readers.
        message = message[:MAX_RECORD_LENGTH].encode(errors="backslashreplace").decode()
        source = common_pb2.LOG_SOURCE_DRIVER if from_driver else _HOOKS.get(record.name, _SYSTEM)
        for line in message.splitlines()[:MAX_LINES] or [""]:
            target.append(
                LogEntry(
                    line[:MAX_LINE_LENGTH],
                    record.levelname,
                    source,
                    record.created,
                    driver if from_driver else "",
                    not from_driver and getattr(record, "is_notice", False) is True,
                )
            )


class NameBoard(logging.Filter):
    """Adds the name of the context's board to each record, for a `LineFormatter`."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let it pass; a record that names its board keeps that name."""
        target = _target.get()
        if target is not None and target.board and not getattr(record, "board", ""):
            record.board = target.board
        return True


_dispatcher = _Dispatcher()
_blocks = 0
_lock = threading.Lock()
