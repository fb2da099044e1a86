"""How a controller's exporters stand, who has which until when, and what changed between two looks. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jumpstarter_proto.texts import shown
from jumpstarter_proto.v1 import common_pb2

from jumpstarter_client.leasing.controller import bare
from jumpstarter_client.leasing.facts import expiry
from jumpstarter_client.leasing.times import when

if TYPE_CHECKING:
    from jumpstarter_proto.client.v1 import client_pb2 as pb

__all__ = ["Seen", "changes", "look"]

_READY = frozenset((common_pb2.EXPORTER_STATUS_AVAILABLE, common_pb2.EXPORTER_STATUS_UNSPECIFIED))
"""Exporters before 0.8 report no status."""


@dataclass(frozen=True)
class Seen:
    """One exporter, at one look."""

    namespace: str
    name: str
    state: str
    """`free`, `leased`, `busy` (between leases), `offline` or `disabled`."""
    reason: str
    """Why it is not free, where it said so."""
    status: str
    """As it reports itself, such as AVAILABLE."""
    online: bool
    enabled: bool
    labels: Mapping[str, str]
    lease: str = ""
    client: str = ""
    """Who holds it."""
    until: float | None = None
    """When that ends, in seconds since the epoch."""
    deprecated_labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """The state; of one that is disabled while somebody still has it, both."""
        return self.state if self.enabled or self.state == "disabled" else f"{self.state}, disabled"

    @property
    def told(self) -> str:
        """The state and all that belongs to it, for the end of a sentence."""
        if self.lease:
            until = f" until {when(self.until)}" if self.until is not None else ""
            return f"{self.words}: {self.client}{until}"
        return f"{self.words}: {shown(self.reason)}" if self.reason else self.words

    def as_data(self) -> dict[str, object]:
        """For scripts: with the keys that Jumpstarter's own client has, and `state` and `reason`."""
        lease = {"name": self.lease, "client": self.client, "until": self.until} if self.lease else None
        return {
            "namespace": self.namespace,
            "name": self.name,
            "state": self.state,
            "reason": self.reason,
            "status": self.status,
            "online": self.online,
            "enabled": self.enabled,
            "labels": dict(self.labels),
            "deprecated_labels": dict(self.deprecated_labels),
            "lease": lease,
        }


def look(exporters: Iterable[pb.Exporter], leases: Iterable[pb.Lease]) -> list[Seen]:
    """Exporters by name, each with the lease that has it."""
    held = {lease.exporter: lease for lease in leases if lease.exporter}
    found = (_seen(exporter, held.get(exporter.name)) for exporter in exporters)
    return sorted(found, key=lambda one: one.name)


def _seen(exporter: pb.Exporter, lease: pb.Lease | None) -> Seen:
    status = common_pb2.ExporterStatus.Name(exporter.status).removeprefix("EXPORTER_STATUS_")
    enabled = exporter.enabled if exporter.HasField("enabled") else True  # before 0.9 all are
    reason = exporter.status_message
    if lease is not None:
        state = "leased"
    elif not exporter.online or exporter.status == common_pb2.EXPORTER_STATUS_OFFLINE:
        state, reason = "offline", reason or "it is not connected"
    elif not enabled:
        state, reason = "disabled", "it is taken out of service"
    elif exporter.status in _READY:
        state, reason = "free", ""
    else:
        state = "busy"
        if exporter.status == common_pb2.EXPORTER_STATUS_LEASE_READY:
            reason = "its last lease ends"  # its own "Ready for commands" was for that lease's user
    return Seen(
        namespace=exporter.name.split("/")[1] if "/" in exporter.name else "",
        name=bare(exporter.name),
        state=state,
        reason=reason,
        status=status,
        online=exporter.online,
        enabled=enabled,
        labels=dict(exporter.labels),
        lease=bare(lease.name) if lease is not None else "",
        client=bare(lease.client) if lease is not None else "",
        until=expiry(lease) if lease is not None else None,
        deprecated_labels=dict(exporter.deprecated_labels),
    )


def changes(before: Iterable[Seen], after: Iterable[Seen]) -> Iterator[tuple[Seen, str]]:
    """Each exporter that is not as it was, and the sentence that says how it is now."""
    old = {one.name: one for one in before}
    for one in after:
        was = old.pop(one.name, None)
        if was is None:
            yield one, f"{one.name} is new, {one.told}"
        elif was.labels != one.labels and was.told == one.told:
            labels = ",".join(f"{key}={value}" for key, value in sorted(one.labels.items()))
            yield one, f"{one.name} has the labels {labels or 'no more'}"
        elif was.told != one.told:
            yield one, f"{one.name} is {one.told}"
    for gone in old.values():
        yield gone, f"{gone.name} is deleted"
