"""The files of one recording: segments of bounded size, the oldest of which are removed. Blocking; for worker threads.

A writer goes on in the newest segment if that is whole. One with a torn end is left as it is, and a new one begun, so
that nothing stands behind what cannot be read. One process writes at a time; any number may read.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jumpstarter_proto.console_lines import begin_of_last, ends_in
from jumpstarter_proto.forks import hold_lock, release_lock
from jumpstarter_proto.regular_files import open_regular

from jumpstarter_exporter.recording.records import ConsoleRecord, RecordKind, decode, encode

__all__ = ["MAX_RECORDING_BYTES", "SEGMENT_BYTES", "Cursor", "RecordingFolder", "TakenError", "last_change"]

MAX_RECORDING_BYTES = 16 * 1024 * 1024
"""Of all segments together: hours of a console at 115200 baud, weeks of a quiet one."""
SEGMENT_BYTES = 1024 * 1024
MAX_SEGMENTS = 256
"""The maximum number, whatever their size: each power cut may leave an incomplete segment."""
_SUFFIX = ".console"
_NAME = re.compile(r"([0-9]{12}|[1-9][0-9]{12,17})\.console")
_OPEN = b"open\n"
"""The content of the lock file while a writer is active."""


class TakenError(OSError):
    """Another process writes this recording."""


@dataclass(frozen=True)
class Cursor:
    """A position in a recording."""

    segment: int
    offset: int


class RecordingFolder:
    """A recording. `open` is for its writer; reading needs only the folder."""

    def __init__(self, path: Path, *, limit: int = MAX_RECORDING_BYTES, segment: int = SEGMENT_BYTES) -> None:
        self.path = path
        self._limit = limit
        self._segment = min(segment, limit // 2)
        self.was_killed = False
        """Whether the last writer ended without closing it, so that its unwritten data is missing."""
        self.latest = 0
        """The latest time in the newest segment that has records, as `open` found it; 0 if there are none."""
        self._lock: int | None = None
        self._file: int | None = None
        self._number = 0
        self._size = 0

    # --- writing

    def open(self) -> None:
        """Become the writer.

        Raises:
            TakenError: another process is.
            OSError: the folder cannot be made.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o750)
        lock = self._locked()
        self._lock = lock
        try:
            self._number = max((number for number, _ in self._entries()), default=0)
            self._go_on()
        except OSError:
            self.close()
            raise
        self.was_killed = os.fstat(lock).st_size > 0
        with suppress(OSError):  # for example if the disk is full: the end of this writer is unknown then
            os.pwrite(lock, _OPEN, 0)

    def _locked(self) -> int:
        lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise TakenError(errno.EBUSY, f"another exporter records into {self.path}") from error
        hold_lock(lock)
        return lock

    @property
    def _lock_path(self) -> Path:
        return self.path / "lock"

    def close(self) -> None:
        """Stop being the writer."""
        self._close_segment()
        lock, self._lock = self._lock, None
        if lock is not None:
            with suppress(OSError):
                os.ftruncate(lock, 0)
            release_lock(lock)

    def append(self, record: ConsoleRecord) -> None:
        """Write a complete record or nothing. Raises OSError."""
        self._write(encode(record))

    def _write(self, data: bytes) -> None:
        if self._file is not None and not _is_at(self._file, self._name(self._number), self._size):
            self._close_segment()  # somebody has removed, moved or emptied it
        if self._file is None or self._size + len(data) > self._segment:
            self._next_segment(len(data))
        assert self._file is not None
        done = 0
        try:
            while done < len(data):
                done += os.write(self._file, data[done:])
        except OSError:
            self._take_back()
            raise
        self._size += len(data)

    def _take_back(self) -> None:
        """An incomplete record must not precede complete ones."""
        assert self._file is not None
        try:
            os.ftruncate(self._file, self._size)
            os.lseek(self._file, self._size, os.SEEK_SET)
        except OSError:  # a disk may be too full even for that: further records go to another segment
            self._close_segment()

    def _close_segment(self) -> None:
        descriptor, self._file = self._file, None
        if descriptor is not None:
            with suppress(OSError):  # for example if the disk is full or gone: the file is closed in any case
                os.close(descriptor)

    def _go_on(self) -> None:
        """Write into the newest segment if it is complete."""
        for number in reversed(self._numbers()):
            content = self._content(number)
            size = 0
            for record in decode(content):
                size += record.size
                self.latest = max(self.latest, record.time)
            if number == self._number and size == len(content):
                self._file = os.open(
                    self._name(number), os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
                )
                self._size = size
            if self.latest:
                break

    def _next_segment(self, first: int) -> None:
        self._close_segment()
        # The folder may have been removed to free some space.
        self.path.mkdir(parents=True, exist_ok=True, mode=0o750)
        if self._lock is not None and not _is_at(self._lock, self._lock_path):
            lock = self._locked()
            release_lock(self._lock)
            self._lock = lock
            with suppress(OSError):
                os.pwrite(lock, _OPEN, 0)
        room = self._limit - max(self._segment, first)
        for kept, number in enumerate(reversed(self._numbers()), start=2):
            room -= self._name(number).stat().st_size
            if room < 0 or kept > MAX_SEGMENTS:
                room = -1  # older ones are removed, too, however small
                self._name(number).unlink()
        self._file = os.open(
            self._name(self._number + 1), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640
        )
        self._number += 1
        self._size = 0

    # --- reading

    def read(self, cursor: Cursor, most: int = 1024 * 1024) -> tuple[list[ConsoleRecord], Cursor]:
        """About `most` bytes of records from a position, and where they end; none if there are no more yet."""
        for number in self._numbers():
            if number < cursor.segment:
                continue
            offset = cursor.offset if number == cursor.segment else 0
            try:
                content = self._content(number, offset)
            except FileNotFoundError:
                continue  # removed just now
            records, size = [], 0
            for record in decode(content):
                records.append(record)
                size += record.size
                if size >= most:
                    break
            cursor = Cursor(number, offset + size)
            if records:
                return records, cursor
        return [], cursor

    def end(self) -> Cursor:
        """The position of the next record, or before it."""
        numbers = self._numbers()
        if not numbers:
            return Cursor(0, 0)
        try:
            content = self._content(numbers[-1])
        except FileNotFoundError:
            return Cursor(numbers[-1] + 1, 0)
        return Cursor(numbers[-1], sum(record.size for record in decode(content)))

    def last_lines(self, count: int) -> tuple[list[ConsoleRecord], Cursor]:
        """The records with the last `count` lines, the first record cut to them, and where they end."""
        end = self.end()
        found: deque[ConsoleRecord] = deque()
        likely, enough = 0, count + 1
        for record in self._backwards(end):
            found.appendleft(record)
            if record.kind is not RecordKind.DATA:
                continue
            likely += ends_in(record.data)
            if likely < enough:
                continue
            start, missing = begin_of_last(_text(found), count)
            if not missing:
                break
            enough = likely + missing
        else:
            start, _ = begin_of_last(_text(found), count, whole=True)
        while found and start >= (size := len(found[0].data) if found[0].kind is RecordKind.DATA else 0):
            start -= size  # a record before the lines
            found.popleft()
        if found:
            found[0] = ConsoleRecord(found[0].time, found[0].kind, found[0].data[start:])
        return list(found), end

    def _backwards(self, end: Cursor) -> Iterator[ConsoleRecord]:
        for number in reversed(self._numbers()):
            if number > end.segment:
                continue
            try:
                content = self._content(number)
            except FileNotFoundError:
                return
            yield from reversed(list(decode(content[: end.offset] if number == end.segment else content)))

    def _content(self, number: int, offset: int = 0) -> bytes:
        with open_regular(self._name(number)) as file:
            file.seek(offset)
            return file.read()

    def _numbers(self) -> list[int]:
        """Of the segments, the oldest first. What is no file is none."""
        return sorted(number for number, is_file in self._entries() if is_file)

    def _entries(self) -> list[tuple[int, bool]]:
        """All numbers that are used, and whether that is a file."""
        try:
            with os.scandir(self.path) as entries:
                return [
                    (int(found[1]), entry.is_file(follow_symlinks=False))
                    for entry in entries
                    if (found := _NAME.fullmatch(entry.name))
                ]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _name(self, number: int) -> Path:
        return self.path / f"{number:012d}{_SUFFIX}"


def last_change(recordings: Path) -> int:
    """When a file of any recording in that folder was changed last, in nanoseconds since the epoch; 0 if there is none.

    Nothing that cannot be read is an error.
    """
    latest = 0
    for file in recordings.glob(f"*/*{_SUFFIX}"):
        with suppress(OSError):
            latest = max(latest, file.lstat().st_mtime_ns)
    return latest


def _is_at(descriptor: int, path: Path, size: int | None = None) -> bool:
    """Whether the open file is still the one at `path`, and has that size."""
    facts = os.fstat(descriptor)
    try:
        return os.path.samestat(facts, path.lstat()) and size in (None, facts.st_size)
    except OSError:
        return False


def _text(records: Iterable[ConsoleRecord]) -> bytes:
    return b"".join(record.data for record in records if record.kind is RecordKind.DATA)
