"""The audit log: takes entries in memory at once, and writes them to its file every second, in a thread."""

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
"""The interval in which old entries are deleted if no new ones arrive."""
MAX_WAITING = 10_000
"""The limit of unwritten entries in memory. Further entries are lost, and counted."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AuditLimits:
    """The limits by age and by size; the stricter one applies."""

    seconds: float = RETENTION_SECONDS
    mib: float = MAX_MIB

    @classmethod
    def none(cls) -> AuditLimits:
        """For commands while no controller runs: they do not know its limits, so they delete nothing."""
        return cls(math.inf, math.inf)


class AuditLog:
    """The audit log. `write` never waits and never fails; lost entries are counted. Writes only while `run` runs."""

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float],
        *,
        oldest: Callable[[float], float] | None = None,
        limits: AuditLimits | None = None,
    ) -> None:
        """`oldest` returns the time before which entries are too old, from the retention in seconds."""
        self._limits = limits or AuditLimits()
        self._file = AuditFile(path, self._limits.mib * 1024 * 1024)
        self._clock = clock
        self._oldest = oldest or (lambda seconds: clock() - seconds)
        self._rates = Rates()
        self._waiting: deque[AuditEntry] = deque()
        self._reports: dict[Board, CallReport] = {}
        """Reports whose entries are not written yet."""
        self._news = trio.Event()
        self._lock = trio.Lock()
        self._thread = trio.CapacityLimiter(1)
        self.trouble = ""
        """Why the last entries could not be written; empty: they were."""
        self.lost = 0
        """Entries that were lost since the start."""
        self._untold = 0

    def write(self, entry: AuditEntry, source: Source, more: int = 0) -> None:
        """Add an entry, unless its source causes too many. `more` similar entries were dropped before."""
        if self._rates.admit(entry, source, trio.current_time(), more):
            self._put(entry)
        self._news.set()

    def count(self, entry: AuditEntry, source: Source, more: int) -> None:
        """Count further entries of which nothing else is known."""
        self._rates.count(entry, source, trio.current_time(), more)
        self._news.set()

    def note_report(self, board: Board, report: CallReport) -> None:
        """All entries of a report were added or counted: write them to the disk together with this note."""
        self._reports[board] = report
        self._news.set()

    async def reports(self) -> dict[Board, CallReport]:
        """The last report of each exporter that was noted before the start. AuditError: the file cannot be read."""
        return await trio.to_thread.run_sync(self._file.reports, limiter=self._thread)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write entries until cancelled. The remaining ones are written then, if that takes at most `BUSY_SECONDS`."""
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
        """Write all waiting entries, and with `trim` delete old ones. Entries that cannot be written stay in memory."""
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
        """The entries in order of time, including unwritten ones, and how many older ones match.

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
