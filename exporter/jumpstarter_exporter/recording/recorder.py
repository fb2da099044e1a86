"""Records a console without ever making it wait.

What is recorded waits in memory, bounded, until a worker thread has written it. A disk that is full, slow or gone
costs output, never the console: what did not fit is a gap in the recording that says how much.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import AsyncGenerator
from pathlib import Path

import trio

from jumpstarter_exporter.record_clock import RECORD_CLOCK
from jumpstarter_exporter.recording.folder import MAX_RECORDING_BYTES, Cursor, RecordingFolder, TakenError
from jumpstarter_exporter.recording.records import ConsoleRecord, RecordKind

__all__ = ["Recorder"]

MAX_WAITING_BYTES = 8 * 1024 * 1024
"""Bytes that may wait for the disk, or are being written."""
RECORD_OVERHEAD_BYTES = 256
"""Memory of a record besides its data, for records with little data."""
MAX_JOINED_BYTES = 64 * 1024
"""Pieces that arrive within `JOIN_NANOSECONDS` are joined up to this size."""
JOIN_NANOSECONDS = 20_000_000
RETRY_SECONDS = 2.0
OPEN_SECONDS = 5.0
"""Interval of attempts to open the recording."""


class Recorder:
    """One console's recording. `run` writes; all other methods can be called at any time."""

    def __init__(self, path: Path, *, logger: logging.Logger, limit: int = MAX_RECORDING_BYTES) -> None:
        self._folder = RecordingFolder(path, limit=limit)
        self._logger = logger
        self._waiting: deque[ConsoleRecord] = deque()
        self._size = 0
        self._lost = 0
        self._wake = trio.lowlevel.ParkingLot()
        self._written = trio.lowlevel.ParkingLot()
        self._is_writer = False
        self._is_placeless = False
        """It should be recorded, but cannot be opened."""
        self._rounds = 0
        """How many records were written or queued."""
        self._taken_bytes = 0
        """Since its creation, of data to record."""
        self._written_bytes = 0
        # A hanging disk blocks only the threads of its own recording.
        self._writing = trio.CapacityLimiter(1)
        self._reading = trio.CapacityLimiter(4)

    @property
    def path(self) -> Path:
        """The folder's path."""
        return self._folder.path

    def record(self, data: bytes) -> None:
        """Add bytes of the console."""
        self._add(RecordKind.DATA, data)

    def mark(self, text: str) -> None:
        """Add a bookmark."""
        self._add(RecordKind.MARK, text.encode())

    def note(self, text: str) -> None:
        """Add an event of the console."""
        self._add(RecordKind.NOTE, text.encode())

    def gap(self, text: str) -> None:
        """Add a gap: which bytes of the console are missing, and why."""
        self._add(RecordKind.GAP, text.encode())

    def _add(self, kind: RecordKind, data: bytes) -> None:
        if not self._is_writer:
            if self._is_placeless:
                self._lost += len(data)
            return  # another process records, or recording is off
        if self._size + len(data) + RECORD_OVERHEAD_BYTES > MAX_WAITING_BYTES:
            self._lost += len(data)
            return
        now = RECORD_CLOCK.now()
        self._tell_gap(now)
        last = self._waiting[-1] if self._waiting else None
        if (
            last is not None
            and kind is last.kind is RecordKind.DATA
            and now - last.time < JOIN_NANOSECONDS
            and len(last.data) + len(data) <= MAX_JOINED_BYTES
        ):
            self._waiting[-1] = ConsoleRecord(last.time, kind, last.data + data)
            self._size += len(data)
            self._taken_bytes += len(data)
        else:
            self._push(ConsoleRecord(now, kind, data))
        self._wake.unpark()

    def _tell_gap(self, now: int) -> None:
        """Record lost bytes where they were lost, before the next record or at the end."""
        if self._lost:
            text = f"{self._lost} bytes are missing here: the disk did not take them".encode()
            self._lost = 0
            self._push(ConsoleRecord(now, RecordKind.GAP, text))

    def _push(self, record: ConsoleRecord) -> None:
        self._waiting.append(record)
        self._size += _cost(record)
        self._taken_bytes += len(record.data)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled, and then what waits. Without a place to write, it says so once and looks for one.

        It starts when it was looked for the first time.
        """
        try:
            is_open = await self._open(is_first=True)
            task_status.started()
            while not is_open:
                await trio.sleep(OPEN_SECONDS)
                is_open = await self._open(is_first=False)
        finally:
            self._is_placeless = False
            self._written.unpark_all()
        self._is_writer = True
        self._tell_gap(RECORD_CLOCK.now())
        if self._folder.was_killed:
            self.gap("what came last before this may be missing: the exporter was killed")
        try:
            await self._write()
        finally:
            self._is_writer = False
            with trio.CancelScope(shield=True):
                error = await trio.to_thread.run_sync(self._finish, limiter=self._writing)
            if error is not None:
                self._logger.warning(
                    "the end of the recording in %s is lost: %s; make room on its disk",
                    self.path,
                    error.strerror,
                )
            self._written.unpark_all()

    async def _open(self, *, is_first: bool) -> bool:
        """Whether records can be written now."""
        try:
            await trio.to_thread.run_sync(self._folder.open, limiter=self._writing)
        except TakenError as error:
            self._is_placeless = False
            if is_first:
                self._logger.info("not recorded: %s", error.strerror)
            return False
        except OSError as error:
            self._is_placeless = True
            if is_first:
                self._logger.warning(
                    "%s cannot be recorded: %s; make room on its disk and the folder writable, or set "
                    "JUMPSTARTER_STATE_DIRECTORY",
                    self.path,
                    error.strerror,
                )
            return False
        RECORD_CLOCK.reached(self._folder.latest)
        if not is_first:
            self._logger.warning("recording into %s begins", self.path)
        return True

    async def _write(self) -> None:
        warned = False
        while True:
            if not self._waiting:
                await self._wake.park()
                continue
            batch, self._waiting = self._waiting, deque()
            # Accepted data is written also after a cancellation.
            with trio.CancelScope(shield=True):
                left, error = await trio.to_thread.run_sync(self._append, batch, limiter=self._writing)
            for record in itertools.islice(batch, len(batch) - len(left)):
                self._size -= _cost(record)
                self._written_bytes += len(record.data)
            if error is None:
                if warned:
                    warned = False
                    self._logger.warning("recording into %s continues", self.path)
                self._tell_gap(RECORD_CLOCK.now())
            else:
                if not warned:
                    warned = True
                    self._logger.warning(
                        "recording into %s pauses: %s; make room on its disk", self.path, error.strerror
                    )
                self._waiting.extendleft(reversed(left))
            self._rounds += 1
            self._written.unpark_all()
            if error is not None:
                await trio.sleep(RETRY_SECONDS)

    def _append(self, batch: deque[ConsoleRecord]) -> tuple[list[ConsoleRecord], OSError | None]:
        """Write a batch. Returns what is left of it, and why."""
        for index, record in enumerate(batch):
            try:
                self._folder.append(record)
            except OSError as error:
                return list(batch)[index:], error
        return [], None

    def _finish(self) -> OSError | None:
        self._tell_gap(RECORD_CLOCK.now())
        _, error = self._append(self._waiting)
        self._waiting.clear()
        self._size = 0
        self._written_bytes = self._taken_bytes
        self._folder.close()
        return error

    async def read(
        self, *, since: int = 0, lines: int | None = None, follow: bool = False, until_now: bool = False
    ) -> AsyncGenerator[list[ConsoleRecord], None]:
        """What was recorded, in batches: from a time on (nanoseconds), or the last lines; then what comes.

        With both, those of the last lines that are not older. `until_now` leaves out what has a later time than now:
        the host's clock was wrong when that was recorded.
        """
        before = self._taken_bytes
        with trio.move_on_after(RETRY_SECONDS):  # data from before the request belongs to the answer
            while self._is_writer and self._written_bytes < before:
                await self._written.park()
        cursor = Cursor(0, 0)
        if lines is not None:
            records, cursor = await trio.to_thread.run_sync(
                self._folder.last_lines, lines, limiter=self._reading
            )
            if wanted := _between(records, since, until_now=until_now):
                yield wanted
        while True:
            rounds = self._rounds
            records, cursor = await trio.to_thread.run_sync(self._folder.read, cursor, limiter=self._reading)
            if wanted := _between(records, since, until_now=until_now):
                yield wanted
            if records:
                continue
            if not follow or not (self._is_writer or self._is_placeless):
                return
            if rounds == self._rounds:
                await self._written.park()


def _between(records: list[ConsoleRecord], since: int, *, until_now: bool) -> list[ConsoleRecord]:
    until = RECORD_CLOCK.now() if until_now else None
    return [one for one in records if one.time >= since and (until is None or one.time <= until)]


def _cost(record: ConsoleRecord) -> int:
    return len(record.data) + RECORD_OVERHEAD_BYTES
