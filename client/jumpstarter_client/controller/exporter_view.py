"""Views of exporters for people and scripts: state, holder, devices, health, and changes. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING

from jumpstarter_proto.texts import shown
from jumpstarter_proto.v1 import common_pb2

from jumpstarter_client.controller.controller_client import short_name
from jumpstarter_client.controller.lease_view import expiry
from jumpstarter_client.times import format_time, rfc3339

if TYPE_CHECKING:
    from jumpstarter_proto.client.v1 import client_pb2 as pb
    from jumpstarter_proto.lab.v1.exporter_pb2 import HealthFinding
    from jumpstarter_proto.lab.v1.exporters_pb2 import Device, ExporterDetails, Hook, HostHealth

    from jumpstarter_client.node import Allowed

__all__ = [
    "ExporterView",
    "describe_exporter",
    "describe_problems",
    "details_as_data",
    "device_rows",
    "exporter_changes",
    "exporter_views",
    "interfaces_of",
]

_READY = frozenset((common_pb2.EXPORTER_STATUS_AVAILABLE, common_pb2.EXPORTER_STATUS_UNSPECIFIED))
"""Exporters before 0.8 report no status."""


@dataclass(frozen=True)
class ExporterView:
    """The state of one exporter."""

    namespace: str
    name: str
    state: str
    """`free`, `leased`, `busy` (between leases), `offline` or `disabled`."""
    reason: str
    """Why it is not free; may be empty."""
    status: str
    """The status that it reports, such as AVAILABLE."""
    online: bool
    enabled: bool
    labels: Mapping[str, str]
    lease: str = ""
    client: str = ""
    """The client that holds the lease."""
    until: float | None = None
    """When the lease expires, in seconds since the epoch."""
    deprecated_labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def state_text(self) -> str:
        """The state; also says if a leased exporter is disabled."""
        return self.state if self.enabled or self.state == "disabled" else f"{self.state}, disabled"

    @property
    def status_text(self) -> str:
        """The state with its details, for the end of a sentence."""
        if self.lease:
            until = f" until {format_time(self.until)}" if self.until is not None else ""
            return f"{self.state_text}: {self.client}{until}"
        return f"{self.state_text}: {shown(self.reason)}" if self.reason else self.state_text

    def as_data(self) -> dict[str, object]:
        """Return the exporter as data: the keys of Jumpstarter's own client, and `state` and `reason`."""
        until = None if self.until is None else rfc3339(self.until)
        lease = {"name": self.lease, "client": self.client, "until": until} if self.lease else None
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


def exporter_views(exporters: Iterable[pb.Exporter], leases: Iterable[pb.Lease]) -> list[ExporterView]:
    """Return views of exporters, sorted by name, with the leases that hold them."""
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
        state, reason = "disabled", "it is disabled"
    elif exporter.status in _READY:
        state, reason = "free", ""
    else:
        state = "busy"
        if exporter.status == common_pb2.EXPORTER_STATUS_LEASE_READY:
            reason = "its last lease is ending"  # its own message was for the user of that lease
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


def exporter_changes(
    before: Iterable[ExporterView], after: Iterable[ExporterView]
) -> Iterator[tuple[ExporterView, str]]:
    """Yield each changed exporter with a sentence about its new state."""
    old = {one.name: one for one in before}
    for one in after:
        previous = old.pop(one.name, None)
        if previous is None:
            yield one, f"{one.name} is new, {one.status_text}"
        elif previous.labels != one.labels and previous.status_text == one.status_text:
            labels = ",".join(f"{key}={value}" for key, value in sorted(one.labels.items()))
            yield one, f"{one.name} has the labels {labels or '(none)'}"
        elif previous.status_text != one.status_text:
            yield one, f"{one.name} is {one.status_text}"
    for gone in old.values():
        yield gone, f"{gone.name} is deleted"


MAX_WAITING = 5
"""Clients in the queue that are named."""
HOOK_FAILURES = {
    "warn": "a failure is a warning",
    "endLease": "a failure ends the lease",
    "exit": "a failure ends the exporter",
}
UNKNOWN_DEVICES = "unknown to this controller; lease the board and run: jumpstarter devices"


def details_as_data(details: ExporterDetails | None, allowed: Allowed) -> dict[str, object]:
    """Return the details as data; all values are null if the controller does not keep them."""
    if details is None:
        return dict.fromkeys(
            ("reasons", "devices", "omitted_devices", "hooks", "host", "gone_since", "health")
        )
    return {
        "reasons": [{"code": one.code, "sentence": one.sentence} for one in details.reasons],
        "devices": [_device_as_data(one, allowed) for one in details.devices],
        "omitted_devices": details.omitted_devices,
        "hooks": [
            {"name": one.name, "timeout_seconds": one.timeout_seconds, "on_failure": one.on_failure}
            for one in details.hooks
        ],
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


def _health(details: ExporterDetails) -> str:
    if not details.HasField("health"):
        return ""
    reported = format_time(details.health.reported.ToDatetime(UTC).timestamp())
    return f"{_counted(_problems(details))}, reported at {reported}"


def _problems(details: ExporterDetails) -> list[HealthFinding]:
    return [one for one in details.health.findings if one.severity in ("error", "warning")]


def describe_problems(details: ExporterDetails) -> list[str]:
    """Describe what is wrong with the host, for who looks after it, in lines."""
    return [
        f"{one.severity + ':':<9} {'; '.join(filter(None, (one.sentence, one.cure)))}"
        for one in _problems(details)
    ]


def _hook(hook: Hook) -> str:
    failure = HOOK_FAILURES.get(hook.on_failure, hook.on_failure)
    return f"{hook.name}, at most {hook.timeout_seconds}s; {failure}"


def _counted(problems: Sequence[HealthFinding]) -> str:
    errors = sum(one.severity == "error" for one in problems)
    counts = ((errors, "error"), (len(problems) - errors, "warning"))
    return (
        " and ".join(f"{count} {what}{'' if count == 1 else 's'}" for count, what in counts if count)
        or "good"
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
    """Return the interface, from the client class for Jumpstarter's own exporters."""
    return device.interface or allowed.interface(device.client)


def interfaces_of(details: ExporterDetails | None, allowed: Allowed) -> list[str]:
    """Return the different interfaces of a board's devices, without groups."""
    devices = details.devices if details is not None else ()
    return sorted({_interface(one, allowed) for one in devices} - {"", "composite"})


def describe_exporter(
    view: ExporterView, details: ExporterDetails | None, waiting: Sequence[pb.Lease] = ()
) -> Iterator[str]:
    """Describe an exporter in lines, without devices and its host's problems. `waiting` are leases that may get it."""
    clients = ", ".join(short_name(one.client) for one in waiting[:MAX_WAITING])
    more = f" and {len(waiting) - MAX_WAITING} more" if len(waiting) > MAX_WAITING else ""
    rows = [
        ("name", view.name),
        ("state", f"{view.state_text}: {view.reason}" if view.reason and not view.lease else view.state_text),
        ("host", details.host if details else ""),
        ("held by", view.client),
        ("lease", view.lease),
        ("until", format_time(view.until) if view.until is not None else ""),
        ("queue", f"{len(waiting)} waiting: {clients}{more}" if waiting else ""),
        *(("reason", f"{one.sentence} ({one.code})") for one in (details.reasons if details else ())),
        ("health", _health(details) if details else ""),
        *(("hook", _hook(one)) for one in (details.hooks if details else ())),
        *(("label", f"{key}={value}") for key, value in sorted(view.labels.items())),
    ]
    if details is None:
        rows.append(("devices", UNKNOWN_DEVICES))
    elif not details.devices:
        rows.append(("devices", "none"))
    elif details.omitted_devices:
        rows.append(
            (
                "devices",
                f"{len(details.devices)}, and {details.omitted_devices} more that the controller does not keep",
            )
        )
    return (f"{name + ':':<9} {text}" for name, text in rows if text)


def device_rows(details: ExporterDetails, allowed: Allowed) -> list[tuple[str, str, str, str]]:
    """Return path, interface, state and reason of each device."""
    return [(one.path, _interface(one, allowed), one.state, one.reason) for one in details.devices]
