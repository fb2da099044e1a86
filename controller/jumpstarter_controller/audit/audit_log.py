"""Entries on their way to the file: at once in memory, and every second on the disk, in a thread."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from jumpstarter_controller.audit.audit_file import AuditError, AuditFile, AuditQuery
from jumpstarter_controller.audit.entry import AuditEntry, Board, CallReport, Source
from jumpstarter_controller.audit.rates import TELL_SECONDS, Rates

__all__ = ["MAX_MIB", "RETENTION_SECONDS", "AuditLimits", "AuditLog"]

RETENTION_SECONDS = 30 * 86400.0
MAX_MIB = 64
WRITE_SECONDS = 1.0
RETRY_SECONDS = 5.0
LOOK_SECONDS = 3600.0
"""What is too old goes so soon, also where nothing happens."""
MAX_WAITING = 10_000
"""Entries in memory; a disk that takes nothing loses what comes then."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AuditLimits:
    """What is kept: as long, and as much, whichever is less."""

    seconds: float = RETENTION_SECONDS
    mib: int = MAX_MIB


class AuditLog:
    """`write` never waits and never fails; `run` has to run. What cannot be kept is counted."""

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float],
        *,
        oldest: Callable[[float], float] | None = None,
        limits: AuditLimits | None = None,
    ) -> None:
        """`oldest` says what is too old, by for how many seconds entries are kept."""
        self._limits = limits or AuditLimits()
        self._file = AuditFile(path, self._limits.mib * 1024 * 1024)
        self._clock = clock
        self._oldest = oldest or (lambda seconds: clock() - seconds)
        self._rates = Rates()
        self._waiting: deque[AuditEntry] = deque()
        self._reports: dict[Board, CallReport] = {}
        """Those whose entries wait, too."""
        self._news = trio.Event()
        self._lock = trio.Lock()
        self._thread = trio.CapacityLimiter(1)
        self.trouble = ""
        """Why the last entries could not be written; empty when they were."""
        self.lost = 0
        """Entries since the start that are in no file."""
        self._untold = 0

    def write(self, entry: AuditEntry, source: Source, more: int = 0) -> None:
        """Keep an entry, unless its source causes too many. `more` like it were left out before it got here."""
        if self._rates.admit(entry, source, trio.current_time(), more):
            self._put(entry)
        self._news.set()

    def count(self, entry: AuditEntry, source: Source, more: int) -> None:
        """There were so many more of which nothing else is known."""
        self._rates.count(entry, source, trio.current_time(), more)
        self._news.set()

    def note_report(self, board: Board, report: CallReport) -> None:
        """The entries of a report were all written or counted: they and this get to the disk together."""
        self._reports[board] = report
        self._news.set()

    async def reports(self) -> dict[Board, CallReport]:
        """The last report of each exporter that was noted before the start. AuditError: the file cannot be read."""
        return await trio.to_thread.run_sync(self._file.reports, limiter=self._thread)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled; what is there by then is written, too, if the disk takes it within `BUSY_SECONDS`."""
        task_status.started()
        try:
            while True:
                with trio.move_on_after(TELL_SECONDS if self._rates.is_counting else LOOK_SECONDS):
                    await self._news.wait()
                await trio.sleep(RETRY_SECONDS if self.trouble else WRITE_SECONDS)
                await self.flush(trim=True)
        finally:
            with trio.CancelScope(shield=True):  # SQLite gives up by itself
                await self.flush(is_last=True)
                await trio.to_thread.run_sync(self._file.close, limiter=self._thread)

    async def flush(self, *, trim: bool = False, is_last: bool = False) -> None:
        """Write what waits, and `trim` what is too old. When it cannot be written, it goes on waiting."""
        async with self._lock:
            self._news = trio.Event()
            for entry in self._rates.due(trio.current_time(), all_of_it=is_last):
                self._put(entry)
            batch, reports = list(self._waiting), self._reports.copy()
            untold = self._untold
            if untold:
                what = f"{untold} entries of the journal were lost: {self.trouble or 'there were too many'}"
                batch.append(AuditEntry(self._clock(), what=what))
            if not batch and not reports and not trim:
                return
            try:
                await trio.to_thread.run_sync(
                    self._file.append,
                    batch,
                    self._oldest(self._limits.seconds),
                    reports,
                    limiter=self._thread,
                )
            except AuditError as error:
                if str(error) != self.trouble:
                    self.trouble = str(error)
                    _log.error("entries of the journal may get lost: %s", error)
                self._news.set()
                return
            for _ in range(len(batch) - bool(untold)):
                self._waiting.popleft()
            self._reports = {
                board: report for board, report in self._reports.items() if reports.get(board) != report
            }
            self._untold -= untold
            if self.trouble:
                self.trouble = ""
                _log.warning("the journal can be written again; %d entries were lost", untold)

    async def read(self, query: AuditQuery) -> tuple[list[AuditEntry], int]:
        """The entries in order of time, also those that are not written yet, and how many older ones there are.

        Raises:
            AuditError: the file cannot be read.
        """
        await self.flush()
        return await trio.to_thread.run_sync(
            self._file.read, query, limiter=self._thread, abandon_on_cancel=False
        )

    def _put(self, entry: AuditEntry) -> None:
        if len(self._waiting) >= MAX_WAITING or not math.isfinite(entry.time):
            self.lost += 1
            self._untold += 1
        else:
            self._waiting.append(entry)
