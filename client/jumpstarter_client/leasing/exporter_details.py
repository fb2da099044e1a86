"""The devices of a controller's exporters, for people and for scripts. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import TYPE_CHECKING

from jumpstarter_client.leasing.times import when

if TYPE_CHECKING:
    from jumpstarter_proto.lab.v1.exporter_pb2 import HealthFinding
    from jumpstarter_proto.lab.v1.exporters_pb2 import Device, ExporterDetails, HostHealth

    from jumpstarter_client.leasing.exporters import Seen
    from jumpstarter_client.node import Allowed

__all__ = ["describe_exporter", "details_as_data", "device_rows"]

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


def describe_exporter(seen: Seen, details: ExporterDetails | None) -> Iterator[str]:
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
