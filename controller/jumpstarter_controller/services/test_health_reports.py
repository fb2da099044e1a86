"""How exporters' hosts are: what is kept of what they say, and who hears it."""

from __future__ import annotations

import logging

import pytest
from jumpstarter_proto.lab.v1 import exporter_pb2, exporters_pb2
from jumpstarter_proto.remote import Identity, Kind
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, generate_latest

from jumpstarter_controller.lab import Exporter
from jumpstarter_controller.metrics.prometheus import LabCollector
from jumpstarter_controller.process.server_log import RefusalLog
from jumpstarter_controller.services.conftest import ANN, ONE, Lab
from jumpstarter_controller.services.health_reports import (
    MAX_FINDINGS,
    MAX_MEASURES,
    MAX_TEXT_LENGTH,
    MAX_TOTAL_LENGTH,
    HealthReport,
    HealthReports,
    health_of,
)


def finding(
    key: str = "power.undervoltage", severity: str = "error", text: str = "x"
) -> exporter_pb2.HealthFinding:
    sentence, cure = f"{text} is so", f"change {text}"
    return exporter_pb2.HealthFinding(key=key, severity=severity, subject=text, sentence=sentence, cure=cure)


def kept(*findings: exporter_pb2.HealthFinding, **measures: float) -> HealthReport:
    return health_of(exporter_pb2.ReportHealthRequest(findings=findings, measures=measures), 7.0)


def test_a_report_is_kept_within_bounds() -> None:
    report = kept(*[finding()] * (MAX_FINDINGS + 3))
    assert (len(report.findings), report.omitted, report.reported) == (MAX_FINDINGS, 3, 7.0)
    (one,) = kept(finding(text="x" * 5000)).findings
    assert (len(one.subject), len(one.sentence), len(one.cure)) == (255, MAX_TEXT_LENGTH, MAX_TEXT_LENGTH)
    long = kept(*[finding(text="x" * 5000)] * MAX_FINDINGS)
    assert len(long.findings) == MAX_TOTAL_LENGTH // (2 * MAX_TEXT_LENGTH + 255 + 18)
    assert len(long.findings) + long.omitted == MAX_FINDINGS
    assert len(kept(**{f"m{number}": 1.0 for number in range(100)}).measures) == MAX_MEASURES


def test_invalid_input_is_not_kept() -> None:
    report = kept(finding(key="Evil"), finding(key=""), finding(key="a.b.c"), finding(severity="dead"))
    assert [(one.key, one.severity) for one in report.findings] == [("power.undervoltage", "unknown")]
    assert report.omitted == 3
    numbers = kept(**{"ok": 1.5, "Evil{}": 1.0, "nan": float("nan"), "inf": float("inf")})
    assert numbers.measures == {"ok": 1.5}


async def registered(lab: Lab) -> Identity:
    """An exporter that has registered."""
    one = await lab.made(Kind.EXPORTER, ONE)
    request = jumpstarter_pb2.RegisterRequest(reports=[jumpstarter_pb2.DriverInstanceReport(uuid="1")])
    await lab.controller.Register(request, metadata=one.metadata())
    return one


async def test_an_exporters_client_sees_the_health_of_its_host(lab: Lab) -> None:
    one, ann = await registered(lab), await lab.made(Kind.CLIENT, ANN)

    async def details() -> exporters_pb2.ExporterDetails:
        request = exporters_pb2.GetExporterDetailsRequest(name="one")
        return await lab.details.GetExporterDetails(request, metadata=ann.metadata())

    assert not (await details()).HasField("health")
    request = exporter_pb2.ReportHealthRequest(
        findings=[finding(), finding(key="Evil")], measures={"temperature_celsius": 51.5}
    )
    await lab.exporter.ReportHealth(request, metadata=one.metadata())
    health = (await details()).health
    assert (list(health.findings), health.omitted_findings) == ([finding()], 1)
    assert (dict(health.measures), health.reported.seconds >= 1000) == ({"temperature_celsius": 51.5}, True)
    await lab.exporter.ReportHealth(exporter_pb2.ReportHealthRequest(), metadata=one.metadata())
    health = (await details()).health
    assert (list(health.findings), dict(health.measures)) == ([], {})
    with pytest.raises(RpcError) as refused:
        await lab.exporter.ReportHealth(request, metadata=ann.metadata())
    assert refused.value.code is StatusCode.INVALID_ARGUMENT


async def test_reports_of_exporters_that_were_deleted_go(lab: Lab) -> None:
    reports = HealthReports(lab.reconciler)
    await registered(lab)
    (one,) = lab.reconciler.committed.all(Exporter)
    gone = replace(one, name="gone", uid="1")
    reports.keep(gone, kept(finding()))
    assert reports.of(gone) is not None
    reports.keep(one, kept(finding()))
    assert (reports.of(gone), reports.of(one)) == (None, kept(finding()))
    assert reports.of(replace(one, uid="of another that has its name")) is None


async def test_numbers_that_are_known_are_metrics_of_exporters_that_are_there(lab: Lab) -> None:
    await lab.report(await registered(lab), "AVAILABLE")
    (one,) = lab.reconciler.committed.all(Exporter)
    reports = HealthReports(lab.reconciler)
    warning = finding(severity="warning")
    reports.keep(one, kept(finding(), warning, temperature_celsius=51.5, chosen_by_a_peer=1.0))
    registry = CollectorRegistry()
    registry.register(
        LabCollector(lab.reconciler, RefusalLog(logging.getLogger(__name__)), reports, lab.journal)
    )
    text = generate_latest(registry).decode()
    name = 'exporter="one",namespace="default"'
    assert f"jumpstarter_host_temperature_celsius{{{name}}} 51.5" in text
    assert f'jumpstarter_host_findings{{{name},severity="error"}} 1.0' in text
    assert f'jumpstarter_host_findings{{{name},severity="warning"}} 1.0' in text
    assert "chosen_by_a_peer" not in text
    lab.reconciler.presence.disconnected(one.key, lab.reconciler.clock() - 3600)
    assert "jumpstarter_host_temperature_celsius{" not in generate_latest(registry).decode()
