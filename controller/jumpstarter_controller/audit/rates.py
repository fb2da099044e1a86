"""Limits the entries of each source; further ones are only counted. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from jumpstarter_controller.audit.entry import AuditEntry, Source

__all__ = ["BURST_ENTRIES", "ENTRIES_PER_SECOND", "Rates"]

BURST_ENTRIES = 300
"""The burst of entries of one source."""
ENTRIES_PER_SECOND = 1.0
"""The rate of further entries of one source."""
TELL_SECONDS = 10.0
"""The interval in which the number of dropped entries is written."""
MAX_SOURCES = 10_000
"""The limit of sources; all further ones are counted as one."""
_OTHERS: Source = ("others",)


@dataclass
class _Bucket:
    tokens: float
    at: float
    left_out: int = 0
    since: float = 0.0
    last: AuditEntry | None = None
    """The entry that stands for dropped ones: it has the fields that they share."""


class Rates:
    """Limits the rate of entries of each source, and counts those that were dropped."""

    def __init__(self) -> None:
        self._buckets: dict[Source, _Bucket] = {}

    @property
    def is_counting(self) -> bool:
        """Whether there are dropped entries that were not written yet."""
        return any(one.left_out for one in self._buckets.values())

    def admit(self, entry: AuditEntry, source: Source, now: float, more: int = 0) -> bool:
        """Whether an entry is written; otherwise it is counted. `more` are counted in addition."""
        bucket = self._bucket(source, now)
        is_kept = bucket.tokens >= 1
        if is_kept:
            bucket.tokens -= 1
        else:
            more += 1
        if more:
            self._leave_out(bucket, entry, more, now)
        return is_kept

    def count(self, entry: AuditEntry, source: Source, now: float, more: int) -> None:
        """Count similar entries that were dropped elsewhere."""
        self._leave_out(self._bucket(source, now), entry, more, now)

    def due(self, now: float, *, all_of_it: bool = False) -> Iterator[AuditEntry]:
        """Entries for the dropped ones that are due; with `all_of_it`, for all of them."""
        for bucket in self._buckets.values():
            if bucket.left_out and bucket.last and (all_of_it or now - bucket.since >= TELL_SECONDS):
                yield replace(bucket.last, more=bucket.left_out)
                bucket.left_out, bucket.last = 0, None

    def _leave_out(self, bucket: _Bucket, entry: AuditEntry, more: int, now: float) -> None:
        if bucket.last is None:
            bucket.since, bucket.last = now, _common(entry, entry)
        bucket.last = _common(bucket.last, entry)
        bucket.left_out += more

    def _bucket(self, source: Source, now: float) -> _Bucket:
        if source not in self._buckets and len(self._buckets) >= MAX_SOURCES:
            self._forget(now)
            if len(self._buckets) >= MAX_SOURCES:
                source = _OTHERS
        bucket = self._buckets.setdefault(source, _Bucket(BURST_ENTRIES, now))
        bucket.tokens = min(BURST_ENTRIES, bucket.tokens + max(0.0, now - bucket.at) * ENTRIES_PER_SECOND)
        bucket.at = now
        return bucket

    def _forget(self, now: float) -> None:
        """Remove buckets that are as full as new ones."""
        full = [
            source
            for source, one in self._buckets.items()
            if not one.left_out and one.tokens + (now - one.at) * ENTRIES_PER_SECOND >= BURST_ENTRIES
        ]
        for source in full:
            del self._buckets[source]


def _common(one: AuditEntry, other: AuditEntry) -> AuditEntry:
    return AuditEntry(
        time=other.time,
        namespace=one.namespace if one.namespace == other.namespace else "",
        board=one.board if one.board == other.board else "",
        client=one.client if one.client == other.client else "",
        lease=one.lease if one.lease == other.lease else "",
        user=one.user if one.user == other.user else "",
        is_call=one.is_call,
    )
