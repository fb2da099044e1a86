"""The known content of a medium, which need not be read again, and when it is discarded; no I/O.

Content that was read or verified stays known only as long as no other program can have written. The evidence for that
is the same exclusive hold of the same medium, without other writes since. If the evidence is missing or different,
everything is discarded and the medium is read again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["MediumKnowledge", "WriteEvidence"]

MAX_WINDOWS = 65536
"""Of which something is remembered: 256 GiB, in 10 MB of memory."""


@dataclass(frozen=True)
class WriteEvidence:
    """Stays equal as long as nobody else writes to the medium; compared as a whole."""

    hold: int
    """A number for each time that the medium was taken."""
    medium: int
    """The kernel's number of the medium: another one is another medium, or one that was away meanwhile."""
    writes: tuple[int, ...]
    """The kernel's counts of the sectors that were written to it, and discarded; empty for a file."""

    def after(self, own_sectors: int) -> WriteEvidence:
        """Return the evidence after this flash has written so many sectors and nobody else has written."""
        if not self.writes:
            return self
        return replace(self, writes=(self.writes[0] + own_sectors, *self.writes[1:]))


class MediumKnowledge:
    """Digests of windows that the medium is known to have, each as `WindowHashes.digest` has it."""

    def __init__(self) -> None:
        self._windows: dict[int, bytes] = {}
        self._evidence: WriteEvidence | None = None
        self._at_begin: WriteEvidence | None = None

    def stands(self, evidence: WriteEvidence | None) -> bool:
        """Whether nobody else can have written since `settle`."""
        return evidence is not None and evidence == self._evidence

    def confirm(self, evidence: WriteEvidence | None) -> bool:
        """Begin a flash: keep what is known if nobody else can have written. Returns whether it was kept."""
        stands = self.stands(evidence)
        if not stands:
            self._windows.clear()
        # From here on the counts grow by our own writes, until `settle` takes them anew.
        self._evidence, self._at_begin = None, evidence
        return stands

    def settle(self, evidence: WriteEvidence | None, own_sectors: int) -> None:
        """End a flash, when all written data is on the medium: from now on the knowledge is used.

        If more or less was written than our own sectors, somebody else wrote during the flash: all is forgotten.
        """
        begin, self._at_begin = self._at_begin, None
        if begin is None or evidence != begin.after(own_sectors):
            evidence = None
        self._evidence = evidence
        if evidence is None:
            self._windows.clear()

    def forget(self) -> None:
        """Forget everything."""
        self._windows.clear()
        self._evidence = self._at_begin = None

    def forget_window(self, index: int) -> None:
        """Some of its bytes are about to be written."""
        self._windows.pop(index, None)

    def forget_from(self, index: int) -> None:
        """The medium ends in that window."""
        for known in [one for one in self._windows if one >= index]:
            del self._windows[known]

    def learn(self, index: int, digest: bytes) -> None:
        """Store the digest of a window that was read or verified."""
        if len(self._windows) < MAX_WINDOWS or index in self._windows:
            self._windows[index] = digest

    def has(self, index: int, digest: bytes) -> bool:
        """Whether the medium is known to have it."""
        return self._windows.get(index) == digest
