"""What has changed, for readers of any speed. No I/O.

A reader has a position. `since` says which records are not as they were there, each once, and how each was; what they
are now is in the view. So nobody's queue grows: who comes late hears less often. Of what was too long ago nothing is
kept: who was there takes everything anew.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable, Iterable

from jumpstarter_controller.lab import Exporter, Lease, Record
from jumpstarter_controller.lab.tables import RecordRef

__all__ = ["MAX_CHANGES", "ChangeFeed"]

MAX_CHANGES = 2048
"""So many are kept, each with one record as it was before."""
MAX_REVISION_LENGTH = 100
"""Characters of a revision that is looked at."""


class ChangeFeed:
    """Changes of exporters and leases, numbered in the order in which they were acknowledged."""

    def __init__(self, most: int = MAX_CHANGES) -> None:
        self.position = 0
        """Of who knows all of it."""
        self._most = most
        self._ring: list[tuple[RecordRef, Record | None]] = []
        """Number n, counted from 0, is at n modulo `most`."""
        self._name = secrets.token_hex(4)
        """Another in each process, which knows nothing of what was before it."""

    def note(self, refs: Iterable[RecordRef], before: Callable[[RecordRef], Record | None]) -> None:
        """These records change, all in the same moment."""
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
        """Which records were touched after that position, and how each was there; None: that is not known."""
        if not self.position - len(self._ring) <= position <= self.position:
            return None
        found: dict[RecordRef, Record | None] = {}
        for number in range(position, self.position):
            ref, before = self._ring[number % self._most]
            found.setdefault(ref, before)
        return found

    def revision(self, position: int, wish: bytes) -> str:
        """A position as its reader keeps it, who may come back with it to ask for the same."""
        return f"{self._name}.{position:x}.{zlib.crc32(wish):x}"

    def position_of(self, revision: str, wish: bytes) -> int | None:
        """The position that is meant; None if it is of another process, another wish, or none at all."""
        name, _, rest = revision[:MAX_REVISION_LENGTH].partition(".")
        try:
            position = int(rest.partition(".")[0], 16)
        except ValueError:
            return None
        return position if name and self.revision(position, wish) == revision else None
