"""The logs that users follow: each session its own, and what the host says of its board.

Who runs says by context where its log records go (`SessionLog.bound`, `BoardLog.bound`): a call, a hook and what a
driver starts in them belong to their session, and what the host does for a board to all sessions of that board. What
runs in no such context, as a driver's own threads do, is in the host's log alone. Every reader gets every entry, and
nobody's slowness costs anybody memory: one bounded ring holds the last entries of a session for all its readers. A
reader that falls behind its tail is told how many entries it missed, in an entry of its own.
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
from jumpstarter_proto.v1 import common_pb2, jumpstarter_pb2

__all__ = ["KEPT", "BoardLog", "Entry", "NameBoard", "Reader", "SessionLog", "dispatching", "unbind"]

KEPT = 1024
"""Entries that a slow reader may be behind."""

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
    is_notice: bool = False
    """The session's users are to read it."""

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
            structured_fields={NOTICE: "1"} if self.is_notice else None,
        )


@dataclass(eq=False)
class Reader:
    """One follower. Iterate it; it never ends by itself."""

    log: SessionLog
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


class _Target(Protocol):
    @property
    def board(self) -> str: ...
    def append(self, entry: Entry) -> None: ...


_target: ContextVar[_Target | None] = ContextVar("the log that records go to", default=None)


@contextmanager
def _bound(target: _Target) -> Iterator[None]:
    token = _target.set(target)
    try:
        yield
    finally:
        _target.reset(token)


def unbind() -> None:
    """What the rest of the task logs, and the tasks that it starts, is about no board, whoever has started it."""
    _target.set(None)


class BoardLog:
    """What the host says of one board: an entry is in the log of each of its sessions that run then."""

    def __init__(self, board: str = "") -> None:
        """`board` is its name."""
        self.board = board
        self._sessions: tuple[SessionLog, ...] = ()

    def append(self, entry: Entry) -> None:
        """Add an entry, from any thread."""
        for session in self._sessions:
            session.append(entry)

    @contextmanager
    def heard_by(self, session: SessionLog) -> Iterator[None]:
        """Let a session hear of its board for the block."""
        self._sessions = (*self._sessions, session)
        try:
            yield
        finally:
            self._sessions = tuple(log for log in self._sessions if log is not session)

    def bound(self) -> AbstractContextManager[None]:
        """What is logged in the block, and in the tasks and calls that it starts, goes here."""
        return _bound(self)


class SessionLog:
    """Append from any thread, read in the trio loop that made it."""

    def __init__(self, kept: int = KEPT, *, board: str = "") -> None:
        """`board` is the name of its board."""
        self.board = board
        self._ring: deque[Entry] = deque(maxlen=kept)
        self._count = 0
        self._lock = threading.Lock()
        self._readers: set[Reader] = set()
        self._token = trio.lowlevel.current_trio_token()

    def bound(self) -> AbstractContextManager[None]:
        """What is logged in the block, and in the tasks and calls that it starts, goes here."""
        return _bound(self)

    def bind(self) -> None:
        """The same for the rest of a task."""
        _target.set(self)

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


@contextmanager
def dispatching() -> Iterator[None]:
    """Have log records go where their contexts say, for the block. There is one handler, however many blocks."""
    global _blocks  # noqa: PLW0603 - counts what uses the process's one handler
    root = logging.getLogger()
    with _lock:
        _blocks += 1
        root.addHandler(_dispatcher)  # which knows whether it is there
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if not _blocks:
                root.removeHandler(_dispatcher)


class _Dispatcher(logging.Handler):
    """Puts each log record into the log of its context, one entry a line.

    The system's own debugging stays out: it says what goes over the wire, secrets included, and an entry about
    the sending of an entry would never end.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Append; a record that cannot be formatted is reported where logging reports such."""
        target = _target.get()
        if target is None:
            return
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
        for line in message.splitlines()[:MAX_LINES] or [""]:
            target.append(
                Entry(
                    line[:MAX_LINE_LENGTH],
                    record.levelname,
                    source,
                    record.created,
                    driver if from_driver else "",
                    not from_driver and getattr(record, "is_notice", False) is True,
                )
            )


class NameBoard(logging.Filter):
    """Gives each record the name of the board in whose context it was logged, for a `LineFormatter`."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let it pass; what names its board already keeps that."""
        target = _target.get()
        if target is not None and target.board and not getattr(record, "board", ""):
            record.board = target.board
        return True


_dispatcher = _Dispatcher()
_blocks = 0
_lock = threading.Lock()
