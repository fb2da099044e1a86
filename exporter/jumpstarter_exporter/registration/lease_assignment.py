"""A lease that the controller has assigned or offered to this exporter."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.texts import shown

__all__ = ["MAX_NAME_LENGTH", "LeaseAssignment", "lease_assignment_of"]

MAX_NAME_LENGTH = 512
"""Characters of the name of a lease or a client; names in Kubernetes have up to 253."""


@dataclass(frozen=True)
class LeaseAssignment:
    """A lease and its client."""

    lease: str
    client: str
    until: float | None = None
    """When it ends unless it is changed, in seconds since the epoch; None if the controller does not say."""


def lease_assignment_of(lease: str, client: str, end: Timestamp | None = None) -> LeaseAssignment | None:
    """The lease in a controller's message; None if it names none. An invalid `end` is ignored.

    Raises:
        RpcError: a name is invalid; names are stored in files, shown to people and passed to hooks.
    """
    if not lease:
        return None
    for kind, name in (("lease", lease), ("client", client)):
        if len(name) > MAX_NAME_LENGTH or not name.isprintable():
            raise RpcError(
                StatusCode.INTERNAL,
                f'the controller sent the {kind} name "{shown(name, 80)}", which is invalid; the lease is not served',
            )
    return LeaseAssignment(lease, client, None if end is None else _seconds_of(end))


def _seconds_of(end: Timestamp) -> float | None:
    try:
        return end.ToNanoseconds() / 1e9
    except ValueError:
        return None
