"""What a restart of the exporter has to know of who uses a board: plain data, and what is read back of it."""

from __future__ import annotations

from dataclasses import dataclass

from jumpstarter_exporter.boards.events import Lease, Phase

__all__ = ["Record"]

VERSION = 1
UNREADABLE = "its record cannot be read"
LATER = "its record is of a later version of the exporter"
LATEST_END_SECONDS = 1e12
"""Since the epoch; a later end is no time."""


@dataclass(frozen=True)
class Record:
    """Of one board."""

    lease: Lease | None = None
    end: float | None = None
    """When the lease ends, in seconds since the epoch; None where its controller does not say."""
    began: float | None = None
    """When the lease got the board, in seconds since the epoch; None where it waits, or nobody has noted it."""
    finished: str = ""
    """The last lease that the exporter ended; its controller may not know yet."""
    drained: str | None = None
    """Why it is drained; None when it is not."""
    unknown: str | None = None
    """Why nobody knows who has it; None where that is known."""

    def to_plain(self) -> dict[str, object]:
        """As JSON can have it."""
        plain: dict[str, object] = {"version": VERSION}
        if (lease := self.lease) is not None:
            plain |= {"lease": lease.name, "client": lease.client, "phase": str(lease.phase)}
            if lease.until:
                plain["until"] = lease.until
            if self.end is not None:
                plain["end"] = self.end
            if self.began is not None:
                plain["began"] = self.began
        if self.finished:
            plain["finished"] = self.finished
        if self.drained is not None:
            plain["drained"] = self.drained
        if self.unknown is not None:
            plain["unknown"] = self.unknown
        return plain

    @classmethod
    def from_plain(cls, plain: object) -> Record:
        """None is a board that nobody has had. Of what is no record of this version it is `unknown` who had it."""
        if plain is None:
            return cls()
        if not isinstance(plain, dict):
            return cls(unknown=UNREADABLE)
        name, client, phase, until, finished, drained, unknown = (
            plain.get(key) for key in ("lease", "client", "phase", "until", "finished", "drained", "unknown")
        )
        drained = drained if isinstance(drained, str) else None
        if (version := plain.get("version")) != VERSION:
            is_later = isinstance(version, int) and version > VERSION
            return cls(drained=drained, unknown=LATER if is_later else UNREADABLE)
        lease = None
        if isinstance(name, str) and isinstance(client, str) and phase in list(map(str, Phase)):
            lease = Lease(name, client, Phase(phase), until=until if isinstance(until, str) else "")
        return cls(
            lease,
            _time(plain.get("end")),
            _time(plain.get("began")),
            finished if isinstance(finished, str) else "",
            drained,
            (unknown if isinstance(unknown, str) else UNREADABLE)
            if "unknown" in plain or (lease is None and "lease" in plain)
            else None,
        )


def _time(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and 0 <= value <= LATEST_END_SECONDS else None
