"""A wall clock that is set: what lasts a time still lasts it, what has a time of day keeps that."""

from __future__ import annotations

from msgspec.structs import replace

from jumpstarter_controller.lab import Client, Lab, PairingCode

__all__ = ["follow_clock"]


def follow_clock(lab: Lab, step: float) -> None:
    """Move all durations that have begun by the `step` of the clock, in seconds; forward is positive.

    A lease that has begun ends after its duration, unless an end was asked for by the time of day. A lease that begins
    later begins at its time of day. Pairing codes, and tokens that were replaced, last as long as was said.
    """
    for lease in lab.open_leases():
        if lease.begun is not None and lease.end_time is None:
            begin = None if lease.begin_time is None else lease.begin_time + step
            lab.put(replace(lease, begun=lease.begun + step, begin_time=begin))
        elif lease.begun is not None:
            lab.put(replace(lease, begun=lease.begun + step))
    for client in list(lab.all(Client)):
        if client.outgoing:
            lab.put(replace(client, outgoing_until=client.outgoing_until + step))
    for code in list(lab.all(PairingCode)):
        lab.put(replace(code, expires=code.expires + step))
