"""The records of a storm, and the check that they are consistent. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass
class Ledger:
    """What users reported, one entry each: `{"what": ..., ...}`; see `visitor.py`."""

    entries: list[Mapping[str, str]] = field(default_factory=list)

    def counts(self) -> Counter[str]:
        """How often each kind of thing was reported."""
        return Counter(entry["what"] for entry in self.entries)

    def bytes_echoed(self) -> int:
        """How many bytes came back as they had been sent."""
        return sum(int(entry["bytes"]) for entry in self.entries if entry["what"] == "echoed")

    def losses(self) -> list[str]:
        """Bytes that were lost without an error, and errors that are not ours."""
        bad = [entry for entry in self.entries if entry["what"] in ("lost", "unexpected")]
        return [f"{entry['user']}: {entry['what']}: {entry['text']}" for entry in bad]

    def held(self) -> set[str]:
        """The names of the leases that users had."""
        return {entry["lease"] for entry in self.entries if entry["what"] == "ready"}


def shared(marks: Sequence[str]) -> list[str]:
    """Holders of a lease who used a board again after somebody else had: a board has one user at a time."""
    gone: set[str] = set()
    found = []
    for before, now in pairwise(marks):
        if now != before:
            gone.add(before)
            if now in gone:
                found.append(now)
    return found


def forgotten(held: Iterable[str], known: Iterable[str]) -> list[str]:
    """Leases that users had and the controller does not know."""
    return sorted(set(held) - set(known))
