"""Recent changes, for readers of any speed. No I/O.

Each reader has a position. `since` returns the records that changed after it, each once, with its earlier version; the
current version is in the lab state. So there is no queue per reader: a slow reader gets fewer, merged changes. Only a
limited number of changes is kept: a reader that is further behind reads everything again.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable, Iterable

from jumpstarter_controller.lab import Exporter, Lease, Record
from jumpstarter_controller.lab.tables import RecordRef

__all__ = ["MAX_CHANGES", "ChangeFeed"]

MAX_CHANGES = 2048
"""The number of changes that are kept, each with the earlier version of its record."""
MAX_REVISION_LENGTH = 100
"""Characters."""


class ChangeFeed:
    """Changes of exporters and leases, numbered in the order in which they were acknowledged."""

    def __init__(self, most: int = MAX_CHANGES) -> None:
        self.position = 0
        """The position of a reader that has read everything."""
        self._most = most
        self._ring: list[tuple[RecordRef, Record | None]] = []
        """Number n, counted from 0, is at n modulo `most`."""
        self._name = secrets.token_hex(4)
        """Random for each process: positions of an earlier process are unknown."""

    def note(self, refs: Iterable[RecordRef], before: Callable[[RecordRef], Record | None]) -> None:
        """Add changes that are committed together."""
        for ref in refs:
            if ref[0] is not Exporter and ref[0] is not Lease:
                continue
            change = (ref, before(ref))
            if len(self._ring) < self._most:
                self._ring.append(change)
            else:
                self._ring[self.position % self._most] = change
            self.position += 1

    def since(self, position: int) -> dict[RecordRef, Record | None] | None:
        """Records that changed after that position, with their versions at that position; None: too long ago."""
        if not self.position - len(self._ring) <= position <= self.position:
            return None
        found: dict[RecordRef, Record | None] = {}
        for number in range(position, self.position):
            ref, before = self._ring[number % self._most]
            found.setdefault(ref, before)
        return found

    def revision(self, position: int, wish: bytes) -> str:
        """A position as text. A reader may come back with it, to continue the same request."""
        return f"{self._name}.{position:x}.{zlib.crc32(wish):x}"

    def position_of(self, revision: str, wish: bytes) -> int | None:
        """The position that a text means; None: of another process or request, or invalid."""
        name, _, rest = revision[:MAX_REVISION_LENGTH].partition(".")
        try:
            position = int(rest.partition(".")[0], 16)
        except ValueError:
            return None
        return position if name and self.revision(position, wish) == revision else None
