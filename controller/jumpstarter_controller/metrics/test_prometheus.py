"""What a scraper reads of a controller: each number says what its name says."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from jumpstarter_proto.rpc import RpcError, StatusCode
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from jumpstarter_controller.audit import AuditLog
from jumpstarter_controller.lab import Drain, Exporter, ExporterStatus, Lease
from jumpstarter_controller.metrics.prometheus import LabCollector, RouterCollector, page
from jumpstarter_controller.process.server_log import RefusalLog
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.router import RouterService, RouterTokens
from jumpstarter_controller.services.health_reports import HealthReports
from jumpstarter_controller.store import MemoryStore

NOW = 1000.0
ONE = Exporter(namespace="lab", name="one", devices=1, status=ExporterStatus.AVAILABLE)
LEASE = Lease(namespace="lab", name="l", client="ann", duration=60.0, created=NOW)
ZEROS = {
    "jumpstarter_lease_acquisitions_total{result=success}": 0,
    "jumpstarter_lease_acquisitions_total{result=failure}": 0,
    "jumpstarter_lease_wait_seconds_count": 0,
    "jumpstarter_lease_wait_seconds_sum": 0,
    "jumpstarter_store_write_seconds_count": 0,
    "jumpstarter_store_write_seconds_sum": 0,
    "jumpstarter_authentication_refusals_total": 0,
    "jumpstarter_store_failed_writes_total": 0,
    "jumpstarter_journal_lost_entries_total": 0,
    "jumpstarter_watches": 0,
    "jumpstarter_leads": 1,
    "jumpstarter_drained": 0,
}


async def read(*collectors: LabCollector | RouterCollector) -> dict[str, float]:
    """Each sample of ours as `name{label=value,…}`, but for buckets."""
    found = {}
    body = (await page(*collectors)()).body.decode()
    for family in text_string_to_metric_families(body):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            if sample.name.startswith("jumpstarter_") and "le" not in sample.labels:
                found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


@pytest.fixture
def lab(tmp_path: Path) -> tuple[Reconciler, RefusalLog, AuditLog, LabCollector]:
    reconciler = Reconciler(MemoryStore(), clock=lambda: NOW)
    refusals = RefusalLog(logging.getLogger(__name__))
    journal = AuditLog(tmp_path / "journal.sqlite", reconciler.clock)
    return (
        reconciler,
        refusals,
        journal,
        LabCollector(reconciler, refusals, HealthReports(reconciler), journal),
    )


async def test_a_lab_in_which_nothing_was_done(
    lab: tuple[Reconciler, RefusalLog, AuditLog, LabCollector],
) -> None:
    assert await read(lab[-1]) == ZEROS


async def test_each_number_is_its_own(lab: tuple[Reconciler, RefusalLog, AuditLog, LabCollector]) -> None:
    reconciler, refusals, journal, collector = lab
    away = replace(ONE, name="two", status=ExporterStatus.OFFLINE)
    for exporter in (ONE, replace(ONE, name="three"), away, replace(ONE, namespace="other")):
        reconciler.committed.set(Exporter, exporter.key, exporter)
    reconciler.presence.connected(ONE.key, NOW)
    reconciler.presence.connected(away.key, NOW)
    later = replace(LEASE, begin_time=NOW + 1.0)
    offered = replace(LEASE, exporter="three", offered=NOW)
    runs = replace(LEASE, exporter="one", begun=NOW)
    for number, lease in enumerate((LEASE, later, offered, offered, runs, replace(runs, ended=NOW))):
        record = replace(lease, name=f"l{number}", exporter=lease.exporter and f"{lease.exporter}{number}")
        reconciler.committed.set(Lease, record.key, record)
    begins = replace(LEASE, name="due", namespace="other", begin_time=NOW)
    reconciler.committed.set(Lease, begins.key, begins)
    drain = Drain(namespace="", name="lab")
    reconciler.committed.set(Drain, drain.key, drain)
    reconciler.leads = lambda: False
    counters = reconciler.counters
    counters.acquisitions |= {"success": 3, "failure": 2}
    counters.waits.observe(4.0)
    counters.writes.observe(0.25)
    counters.writes.observe(0.25)
    counters.dials.update({"OK": 7, "UNAVAILABLE": 1})
    counters.requests["a.Service/Call"] = 5
    counters.watches, counters.failed_writes, journal.lost = 6, 8, 9
    refusals.note(RpcError(StatusCode.UNKNOWN, "why"))
    assert await read(collector) == {
        "jumpstarter_exporters{namespace=lab,status=available}": 2,
        "jumpstarter_exporters{namespace=lab,status=offline}": 1,
        "jumpstarter_exporters{namespace=other,status=available}": 1,
        "jumpstarter_exporters_online{namespace=lab}": 1,
        "jumpstarter_exporters_online{namespace=other}": 0,
        "jumpstarter_leases{namespace=lab,state=active}": 1,
        "jumpstarter_leases{namespace=lab,state=future}": 1,
        "jumpstarter_leases{namespace=lab,state=waiting}": 3,
        "jumpstarter_leases{namespace=other,state=waiting}": 1,
        "jumpstarter_leads": 0,
        "jumpstarter_drained": 1,
        "jumpstarter_lease_acquisitions_total{result=success}": 3,
        "jumpstarter_lease_acquisitions_total{result=failure}": 2,
        "jumpstarter_lease_wait_seconds_count": 1,
        "jumpstarter_lease_wait_seconds_sum": 4,
        "jumpstarter_dials_total{code=OK}": 7,
        "jumpstarter_dials_total{code=UNAVAILABLE}": 1,
        "jumpstarter_requests_total{method=a.Service/Call}": 5,
        "jumpstarter_watches": 6,
        "jumpstarter_authentication_refusals_total": 1,
        "jumpstarter_store_write_seconds_count": 2,
        "jumpstarter_store_write_seconds_sum": 0.5,
        "jumpstarter_store_failed_writes_total": 8,
        "jumpstarter_journal_lost_entries_total": 9,
    }


async def test_a_router() -> None:
    router = RouterService(RouterTokens(b"x" * 32))
    router.pairs, router.received, router.sent, router.held, router.refused = 1, 2, 3, 4, 5
    assert router._pairing.arrive("name", object()) is None  # type: ignore[arg-type]
    router.refusals.note(RpcError(StatusCode.UNKNOWN, "why"))
    assert await read(RouterCollector(router)) == {
        "jumpstarter_router_streams{state=joined}": 1,
        "jumpstarter_router_streams{state=waiting}": 1,
        "jumpstarter_router_bytes_total{direction=in}": 2,
        "jumpstarter_router_bytes_total{direction=out}": 3,
        "jumpstarter_router_held_bytes": 4,
        "jumpstarter_router_full_total": 5,
        "jumpstarter_router_authentication_refusals_total": 1,
    }
