"""A lease of this exporter, as its controller tells of it."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.texts import shown

__all__ = ["MAX_NAME_LENGTH", "Tenant", "tenant_of"]

MAX_NAME_LENGTH = 512
"""Characters of the name of a lease or a client; Kubernetes' names have 253."""


@dataclass(frozen=True)
class Tenant:
    """A lease, and whose it is."""

    lease: str
    client: str
    until: float | None = None
    """When it ends unless somebody changes it, in seconds since the epoch; None where the controller does not say."""


def tenant_of(lease: str, client: str, end: Timestamp | None = None) -> Tenant | None:
    """The lease that a controller names, None if it names none. An `end` that is no time is not said.

    Raises:
        RpcError: its names cannot be names: they are kept in files, shown to people and given to hooks.
    """
    if not lease:
        return None
    for kind, name in (("lease", lease), ("client", client)):
        if len(name) > MAX_NAME_LENGTH or not name.isprintable():
            raise RpcError(
                StatusCode.INTERNAL,
                f'the controller names a {kind} "{shown(name, 80)}", which cannot be a name; it is not served',
            )
    return Tenant(lease, client, None if end is None else _seconds_of(end))


def _seconds_of(end: Timestamp) -> float | None:
    try:
        return end.ToNanoseconds() / 1e9
    except ValueError:
        return None
