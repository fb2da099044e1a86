"""Adjusts records when the wall clock is set: durations keep their length, times of day stay.

A computer without a battery-backed clock starts years in the past, until it gets the time from the network. Times that
were written before that start are correct once the clock is, and must not be moved.
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
"""A clock that is behind the newest written time by less than this was probably set back a little, and is correct."""


@dataclass(frozen=True)
class FutureTimestamps:
    """Times in the records that are later than the clock was when the controller started."""

    newest: float = 0.0
    """The latest of them. A clock that reaches it is correct."""
    times: Mapping[tuple[type[Record], Key], float] = field(default_factory=dict)

    @classmethod
    def of(cls, state: LabState, now: float) -> FutureTimestamps:
        """The future times of a lab that was just loaded; empty if the clock may be correct."""
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
        """Whether this time of a record is one of them."""
        return self.times.get((type(record), record.key)) == time

    def at(self, now: float) -> FutureTimestamps:
        """The times that are still in the future at `now`."""
        return FutureTimestamps() if now >= self.newest - TOLERANCE_SECONDS else self


def follow_clock(
    draft: Draft,
    step: float,
    ahead: FutureTimestamps = FutureTimestamps(),
    moved: Mapping[tuple[RecordRef, bool], float] = MappingProxyType({}),
) -> None:
    """Move the times of running durations by `step` seconds; positive if the clock was set forward.

    An active lease ends after its duration, unless its end was requested as a time of day. A future lease begins at
    its time of day. Pairing codes and replaced tokens keep their validity. Times in `ahead` are not moved. `moved` says
    by how much specs, and statuses (True), were moved already, before the store cut the batch: they move by the rest.
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
