"""The format of a recording: records one after another, each with its time, its kind and a checksum.

A process that is killed in the middle of a write leaves a torn record at the end of a file. Reading ends there; what
stands before is whole. No I/O in here.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["MAX_RECORD_BYTES", "ConsoleRecord", "RecordKind", "decode", "encode"]

MAX_RECORD_BYTES = 1024 * 1024
"""Bytes of one record."""

_HEADER = struct.Struct(">IBQ")
_SUM = struct.Struct(">I")


class RecordKind(enum.IntEnum):
    """The kind of a record."""

    DATA = 0
    """Bytes of the console, unchanged."""
    MARK = 1
    """A user's bookmark, as text."""
    GAP = 2
    """Data is missing here; the text says what."""
    NOTE = 3
    """An event of the console, as text: it was opened, or unplugged."""


@dataclass(frozen=True)
class ConsoleRecord:
    """A piece of a recording."""

    time: int
    """Nanoseconds since the epoch."""
    kind: RecordKind
    data: bytes

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return _HEADER.size + len(self.data) + _SUM.size


def encode(record: ConsoleRecord) -> bytes:
    """A record in its format on disk."""
    head = _HEADER.pack(len(record.data), record.kind, record.time)
    return b"".join((head, record.data, _SUM.pack(zlib.crc32(record.data, zlib.crc32(head)))))


def decode(data: bytes, start: int = 0) -> Iterator[ConsoleRecord]:
    """The complete records of a file's content from `start` on; stops at an incomplete one."""
    while start + _HEADER.size <= len(data):
        size, kind, time = _HEADER.unpack_from(data, start)
        body = start + _HEADER.size
        end = body + size
        if size > MAX_RECORD_BYTES or end + _SUM.size > len(data):
            return
        piece = data[body:end]
        checked = zlib.crc32(piece, zlib.crc32(data[start:body]))
        if _SUM.unpack_from(data, end)[0] != checked or kind > RecordKind.NOTE:
            return
        yield ConsoleRecord(time, RecordKind(kind), piece)
        start = end + _SUM.size
