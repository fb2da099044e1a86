"""A wall clock that is set: what lasts a time still lasts it, what has a time of day keeps that.

A computer without a clock of its own starts years behind, until it has asked the network. What was written before that
start is right already when the clock becomes so, and must not move with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from msgspec.structs import replace

from jumpstarter_controller.lab import Client, Draft, Key, LabState, Lease, PairingCode, Record
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.scheduling.clock import STEP_SECONDS

__all__ = ["FutureTimestamps", "follow_clock"]

TOLERANCE_SECONDS = 60.0
"""A clock that is so little behind what was written may have been right before, and was set back a little since."""


@dataclass(frozen=True)
class FutureTimestamps:
    """Times that were written by a clock that was ahead of the one that we started with."""

    newest: float = 0.0
    """When the clock is as far, it is right."""
    times: Mapping[tuple[type[Record], Key], float] = field(default_factory=dict)

    @classmethod
    def of(cls, state: LabState, now: float) -> FutureTimestamps:
        """Of a lab that was just loaded; nothing, if the clock can be right."""
        found = [
            time
            for lease in state.all(Lease)
            for time in (lease.created, lease.begun, lease.ended)
            if time is not None
        ]
        newest = max(found, default=0.0)
        if now >= newest - TOLERANCE_SECONDS:
            return cls()
        times: dict[tuple[type[Record], Key], float] = {
            (Lease, lease.key): lease.begun for lease in state.open_leases() if lease.begun is not None
        }
        times |= {(Client, one.key): one.previous_uid_until for one in state.all(Client) if one.previous_uid}
        times |= {(PairingCode, one.key): one.expires for one in state.all(PairingCode)}
        return cls(newest, times)

    def has(self, record: Record, time: float) -> bool:
        """Whether that time of a record is one of them, and not newer."""
        return self.times.get((type(record), record.key)) == time

    def at(self, now: float) -> FutureTimestamps:
        """What is left of them when the clock was set."""
        return FutureTimestamps() if now >= self.newest - TOLERANCE_SECONDS else self


def follow_clock(
    draft: Draft,
    step: float,
    ahead: FutureTimestamps = FutureTimestamps(),
    moved: Mapping[tuple[RecordRef, bool], float] = MappingProxyType({}),
) -> None:
    """Move all durations that have begun by the `step` of the clock, in seconds; forward is positive.

    A lease that has begun ends after its duration, unless an end was asked for by the time of day. A lease that begins
    later begins at its time of day. Pairing codes, and tokens that were replaced, last as long as was said. What was
    written `ahead` of our clock stays. Of a record that was `moved` already, by so much, its spec or (True) its status
    has the rest to go: no more than once, wherever the store has stopped.
    """

    def rest(record: Record, *, of_status: bool) -> float:
        seconds = step - moved.get(((type(record), record.key), of_status), 0.0)
        return seconds if abs(seconds) >= STEP_SECONDS else 0.0

    for lease in draft.open_leases():
        by = rest(lease, of_status=True)
        if lease.offered is not None:
            draft.put(replace(lease, offered=lease.offered + by))
        if lease.begun is None or ahead.has(lease, lease.begun):
            continue
        begin = lease.begin_time
        if begin is not None and lease.end_time is None:
            begin += rest(lease, of_status=False)
        draft.put(replace(lease, begun=lease.begun + by, begin_time=begin))
    for client in list(draft.all(Client)):
        if client.previous_uid and not ahead.has(client, client.previous_uid_until):
            draft.put(
                replace(client, previous_uid_until=client.previous_uid_until + rest(client, of_status=False))
            )
    for code in list(draft.all(PairingCode)):
        if not ahead.has(code, code.expires):
            draft.put(replace(code, expires=code.expires + rest(code, of_status=False)))
