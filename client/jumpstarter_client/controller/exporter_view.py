"""How a controller's exporters stand, who has which until when, and what changed between two looks. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING

from jumpstarter_proto.texts import shown
from jumpstarter_proto.v1 import common_pb2

from jumpstarter_client.controller.controller_client import short_name
from jumpstarter_client.controller.lease_view import expiry
from jumpstarter_client.times import when

if TYPE_CHECKING:
    from jumpstarter_proto.client.v1 import client_pb2 as pb
    from jumpstarter_proto.lab.v1.exporter_pb2 import HealthFinding
    from jumpstarter_proto.lab.v1.exporters_pb2 import Device, ExporterDetails, HostHealth

    from jumpstarter_client.node import Allowed

__all__ = ["ExporterView", "changes", "describe_exporter", "details_as_data", "device_rows", "look"]

_READY = frozenset((common_pb2.EXPORTER_STATUS_AVAILABLE, common_pb2.EXPORTER_STATUS_UNSPECIFIED))
"""Exporters before 0.8 report no status."""


@dataclass(frozen=True)
class ExporterView:
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


def look(exporters: Iterable[pb.Exporter], leases: Iterable[pb.Lease]) -> list[ExporterView]:
    """Exporters by name, each with the lease that has it."""
    held = {lease.exporter: lease for lease in leases if lease.exporter}
    found = (_seen(exporter, held.get(exporter.name)) for exporter in exporters)
    return sorted(found, key=lambda one: one.name)


def _seen(exporter: pb.Exporter, lease: pb.Lease | None) -> ExporterView:
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
    return ExporterView(
        namespace=exporter.name.split("/")[1] if "/" in exporter.name else "",
        name=short_name(exporter.name),
        state=state,
        reason=reason,
        status=status,
        online=exporter.online,
        enabled=enabled,
        labels=dict(exporter.labels),
        lease=short_name(lease.name) if lease is not None else "",
        client=short_name(lease.client) if lease is not None else "",
        until=expiry(lease) if lease is not None else None,
        deprecated_labels=dict(exporter.deprecated_labels),
    )


def changes(
    before: Iterable[ExporterView], after: Iterable[ExporterView]
) -> Iterator[tuple[ExporterView, str]]:
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


NOT_KNOWN = "not known: this controller does not tell; lease the board and ask it: jumpstarter devices"


def details_as_data(details: ExporterDetails | None, allowed: Allowed) -> dict[str, object]:
    """The keys that a listing has of each exporter; all are null where the controller does not keep devices."""
    if details is None:
        return dict.fromkeys(("reasons", "devices", "omitted_devices", "host", "gone_since", "health"))
    return {
        "reasons": [{"code": one.code, "sentence": one.sentence} for one in details.reasons],
        "devices": [_device_as_data(one, allowed) for one in details.devices],
        "omitted_devices": details.omitted_devices,
        "host": details.host or None,
        "gone_since": details.gone_since.ToDatetime(UTC).isoformat()
        if details.HasField("gone_since")
        else None,
        "health": _health_as_data(details.health) if details.HasField("health") else None,
    }


def _health_as_data(health: HostHealth) -> dict[str, object]:
    return {
        "reported": health.reported.ToDatetime(UTC).isoformat(),
        "findings": [
            {
                "key": one.key,
                "severity": one.severity,
                "subject": one.subject,
                "sentence": one.sentence,
                "cure": one.cure,
            }
            for one in health.findings
        ],
        "omitted_findings": health.omitted_findings,
        "measures": dict(sorted(health.measures.items())),
    }


def _health_rows(details: ExporterDetails) -> Iterator[tuple[str, str]]:
    """What is wrong with its host, and when it said so."""
    if not details.HasField("health"):
        return
    health = details.health
    problems = [one for one in health.findings if one.severity in ("error", "warning")]
    when_told = when(health.reported.ToDatetime(UTC).timestamp())
    yield "health", f"{_counted(problems)}, as its host said at {when_told}"
    for one in problems:
        yield one.severity, "; ".join(filter(None, (one.sentence, one.cure)))


def _counted(problems: Sequence[HealthFinding]) -> str:
    errors = sum(one.severity == "error" for one in problems)
    said = ((errors, "error"), (len(problems) - errors, "warning"))
    return (
        " and ".join(f"{count} {what}{'' if count == 1 else 's'}" for count, what in said if count) or "good"
    )


def _device_as_data(device: Device, allowed: Allowed) -> dict[str, object]:
    return {
        "path": device.path,
        "interface": _interface(device, allowed),
        "client": device.client,
        "state": device.state,
        "reason": device.reason,
        "description": device.description,
    }


def _interface(device: Device, allowed: Allowed) -> str:
    """Jumpstarter's own exporters name the client class only."""
    return device.interface or allowed.interface(device.client)


def describe_exporter(seen: ExporterView, details: ExporterDetails | None) -> Iterator[str]:
    """Everything about an exporter but its devices, in lines."""
    rows = [
        ("name", seen.name),
        ("state", f"{seen.words}: {seen.reason}" if seen.reason and not seen.lease else seen.words),
        ("host", details.host if details else ""),
        ("held by", seen.client),
        ("lease", seen.lease),
        ("until", when(seen.until) if seen.until is not None else ""),
        *(("reason", f"{one.sentence} ({one.code})") for one in (details.reasons if details else ())),
        *(_health_rows(details) if details else ()),
        *(("label", f"{key}={value}") for key, value in sorted(seen.labels.items())),
    ]
    if details is None:
        rows.append(("devices", NOT_KNOWN))
    elif not details.devices:
        rows.append(("devices", "none; it has not registered with any"))
    elif details.omitted_devices:
        rows.append(
            (
                "devices",
                f"{len(details.devices)}, and {details.omitted_devices} that the controller does not keep",
            )
        )
    return (f"{name + ':':<9} {text}" for name, text in rows if text)


def device_rows(details: ExporterDetails, allowed: Allowed) -> list[tuple[str, str, str, str]]:
    """Path, interface, state and reason of each device."""
    return [(one.path, _interface(one, allowed), one.state, one.reason) for one in details.devices]
