"""Converts an exporter's reports to device records. Reports are untrusted; invalid ones raise no error."""

from __future__ import annotations

import re
from collections.abc import Sequence

from jumpstarter_proto.report_labels import CLIENT, HOOKS, INTERFACE, NAME, REASON, STATE
from jumpstarter_proto.v1 import jumpstarter_pb2

from jumpstarter_controller.lab import ReportedDevice, ReportedHook

__all__ = ["devices_of", "hooks_of"]

_HOOK = re.compile(r"(beforeLease|afterLease):([1-9][0-9]{0,8}):(warn|endLease|exit)")
MAX_DEPTH = 32
MAX_NAME_LENGTH = 255
MAX_WORD_LENGTH = 255
"""Characters of an interface, a client class and a state."""
MAX_UUID_LENGTH = 64
"""Characters; a longer one is none."""
MAX_TEXT_LENGTH = 1024
"""Characters of a reason and of a description."""
MAX_TOTAL_LENGTH = 256 * 1024
"""Characters of all texts of an exporter's devices together."""


def devices_of(
    reports: Sequence[jumpstarter_pb2.DriverInstanceReport],
) -> tuple[tuple[ReportedDevice, ...], int]:
    """The devices below the root in the order of the reports, and how many more are not kept.

    Parents stand before their children, as in every report; one UUID may stand in several places. What has no place in
    the tree, or is deeper, longer or more than is kept, is left out. Long reasons and descriptions are cut.
    """
    refs: dict[str, tuple[str, int]] = {}
    found: list[ReportedDevice] = []
    omitted = total = 0
    for report in reports:
        if not report.parent_uuid:
            refs[report.uuid] = "", 0
            continue
        name, parent = report.labels.get(NAME, ""), refs.get(report.parent_uuid)
        if parent is None or not 0 < len(name) <= MAX_NAME_LENGTH or parent[1] >= MAX_DEPTH:
            omitted += 1
            continue
        path = f"{parent[0]}.{name}" if parent[0] else name
        device = _device(report, path)
        total += sum(map(len, (path, device.interface, device.client, device.state)))
        total += len(device.reason) + len(device.description) + len(device.uuid)
        if total > MAX_TOTAL_LENGTH:
            return tuple(found), len(reports) - len(found) - sum(not one.parent_uuid for one in reports)
        refs[report.uuid] = path, parent[1] + 1
        found.append(device)
    return tuple(found), omitted


def hooks_of(reports: Sequence[jumpstarter_pb2.DriverInstanceReport]) -> tuple[ReportedHook, ...]:
    """The hooks that the root names, each once. What is none is left out."""
    said = next((one.labels.get(HOOKS, "") for one in reports if not one.parent_uuid), "")
    parts = (_HOOK.fullmatch(part) for part in said[:MAX_WORD_LENGTH].split(","))
    found = {part[1]: ReportedHook(part[1], int(part[2]), part[3]) for part in parts if part}
    return tuple(found.values())


def _device(report: jumpstarter_pb2.DriverInstanceReport, path: str) -> ReportedDevice:
    labels = report.labels
    return ReportedDevice(
        path=path,
        interface=labels.get(INTERFACE, "")[:MAX_WORD_LENGTH],
        client=labels.get(CLIENT, "")[:MAX_WORD_LENGTH],
        state=labels.get(STATE, "")[:MAX_WORD_LENGTH],
        reason=labels.get(REASON, "")[:MAX_TEXT_LENGTH],
        description=report.description[:MAX_TEXT_LENGTH],
        uuid=report.uuid if len(report.uuid) <= MAX_UUID_LENGTH else "",
    )
