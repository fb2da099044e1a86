"""What must survive a restart about who uses a board: plain data, and how it is read back."""

from __future__ import annotations

from dataclasses import dataclass

from jumpstarter_exporter.boards.events import ServedLease, ServingPhase

__all__ = ["OccupancyRecord"]

VERSION = 1
UNREADABLE = "its record cannot be read"
LATER = "its record is of a later version of the exporter"
LATEST_END_SECONDS = 1e12
"""In seconds since the epoch; a later end is invalid."""


@dataclass(frozen=True)
class OccupancyRecord:
    """The record of one board."""

    lease: ServedLease | None = None
    end: float | None = None
    """When the lease ends, in seconds since the epoch; None if the controller does not say."""
    began: float | None = None
    """When the lease got the board, in seconds since the epoch; None if it waits or that is not recorded."""
    finished: str = ""
    """The last lease that the exporter ended; the controller may not know yet."""
    drained: str | None = None
    """Why it is drained; None if it is not."""
    unknown: str | None = None
    """Why it is unknown who has the board; None if it is known."""

    def to_plain(self) -> dict[str, object]:
        """The record as JSON data."""
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
    def from_plain(cls, plain: object) -> OccupancyRecord:
        """The record of JSON data.

        None is an unused board; for data that is invalid or of a later version, `unknown` is set.
        """
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
        if isinstance(name, str) and isinstance(client, str) and phase in list(map(str, ServingPhase)):
            lease = ServedLease(
                name, client, ServingPhase(phase), until=until if isinstance(until, str) else ""
            )
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
