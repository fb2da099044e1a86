"""The last health reports of the hosts. Exporters are not trusted; invalid reports cause no errors.

Reports are kept in memory only, because exporters report again whenever they connect.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from jumpstarter_proto.lab.v1 import exporter_pb2

from jumpstarter_controller.lab import Exporter, Key
from jumpstarter_controller.reconciler.reconciler import Reconciler

__all__ = ["SEVERITIES", "HealthReport", "HealthReports", "ReportedFinding", "health_of"]

SEVERITIES = ("ok", "unknown", "warning", "error")
MAX_FINDINGS = 64
MAX_MEASURES = 32
MAX_WORD_LENGTH = 255
"""Characters of a finding's subject."""
MAX_TEXT_LENGTH = 1024
"""Characters of a sentence and of a cure."""
MAX_TOTAL_LENGTH = 32 * 1024
"""Characters of all texts of a report together."""
_KEY = re.compile(r"[a-z][a-z0-9-]{0,31}(\.[a-z0-9-]{1,31})?")
_MEASURE = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True)
class ReportedFinding:
    """A finding about a host, as reported. All texts are untrusted."""

    key: str
    severity: str
    """One of `SEVERITIES`."""
    subject: str = ""
    sentence: str = ""
    cure: str = ""


@dataclass(frozen=True)
class HealthReport:
    """The health of a host, as its exporter reported it."""

    findings: tuple[ReportedFinding, ...]
    omitted: int
    """Number of reported findings that were not stored."""
    measures: Mapping[str, float] = field(default_factory=dict)
    reported: float = 0.0
    """When it was reported, in seconds since the epoch."""


def health_of(request: exporter_pb2.ReportHealthRequest, now: float) -> HealthReport:
    """The report as it is stored: limited in size, without invalid keys and numbers."""
    found: list[ReportedFinding] = []
    total = 0
    for one in request.findings:
        if not _KEY.fullmatch(one.key):
            continue
        finding = _finding(one)
        total += sum(map(len, (finding.key, finding.subject, finding.sentence, finding.cure)))
        if len(found) == MAX_FINDINGS or total > MAX_TOTAL_LENGTH:
            break
        found.append(finding)
    good = (
        (name, value)
        for name, value in sorted(request.measures.items())
        if _MEASURE.fullmatch(name) and math.isfinite(value)
    )
    measures = dict(pair for pair, _ in zip(good, range(MAX_MEASURES), strict=False))
    return HealthReport(tuple(found), len(request.findings) - len(found), measures, now)


def _finding(one: exporter_pb2.HealthFinding) -> ReportedFinding:
    return ReportedFinding(
        one.key,
        one.severity if one.severity in SEVERITIES else "unknown",
        one.subject[:MAX_WORD_LENGTH],
        one.sentence[:MAX_TEXT_LENGTH],
        one.cure[:MAX_TEXT_LENGTH],
    )


class HealthReports:
    """The last report of each existing exporter."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler
        self._reports: dict[Key, tuple[str, HealthReport]] = {}

    def keep(self, exporter: Exporter, report: HealthReport) -> None:
        """Replace the exporter's last report. Reports of deleted exporters are dropped."""
        self._reports[exporter.key] = exporter.uid, report
        if len(self._reports) > self._reconciler.committed.count(Exporter):
            for key in [
                one for one in self._reports if self._reconciler.committed.get(Exporter, one) is None
            ]:
                del self._reports[key]

    def of(self, exporter: Exporter) -> HealthReport | None:
        """Its last report; None: there is none. Reports of an earlier exporter with the same name are ignored."""
        uid, report = self._reports.get(exporter.key, ("", None))
        return report if uid == exporter.uid else None
