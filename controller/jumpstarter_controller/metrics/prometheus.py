"""Prometheus metrics of controller and router, read from their state at each scrape."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from jumpstarter_controller.audit import AuditLog
from jumpstarter_controller.lab import Drain, Exporter
from jumpstarter_controller.process.http_pages import Page
from jumpstarter_controller.process.server_log import RefusalLog
from jumpstarter_controller.reconciler.counters import Histogram
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.router import RouterService
from jumpstarter_controller.scheduling import online
from jumpstarter_controller.services.health_reports import HealthReports

__all__ = ["LabCollector", "RouterCollector", "page"]

HOST_MEASURES = {
    "undervoltage": "1 while the supply's voltage is too low.",
    "temperature_celsius": "Of the processor.",
    "memory_available_bytes": "Memory that programs can still have.",
    "state_free_bytes": "Room where the exporter keeps its state and recordings.",
    "clock_synchronised": "1 while the host's clock is.",
}
"""The measures of exporters that become metrics, so that an exporter cannot choose names of series."""


def page(*collectors: Collector) -> Callable[[], Awaitable[Page]]:
    """The handler of `/metrics`: these collectors, and the process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    for one in collectors:
        registry.register(one)

    async def make() -> Page:
        return Page(generate_latest(registry), CONTENT_TYPE_LATEST)

    return make


class LabCollector(Collector):
    """Metrics of a controller. Call `collect` in the reconciler's thread."""

    def __init__(
        self, reconciler: Reconciler, refusals: RefusalLog, health: HealthReports, journal: AuditLog
    ) -> None:
        self._reconciler = reconciler
        self._audit_log = journal
        self._refusals = refusals
        self._health = health

    def collect(self) -> Iterator[Metric]:
        """All numbers, as they are now."""
        yield from self._exporters()
        yield from self._leases()
        yield from self._hosts()
        drain = self._reconciler.committed.get(Drain, Drain.KEY)
        yield GaugeMetricFamily(
            "jumpstarter_leads", "1 on the controller that schedules leases.", int(self._reconciler.leads())
        )
        yield GaugeMetricFamily(
            "jumpstarter_drained", "1 while no lease begins, as the lab is drained.", int(drain is not None)
        )
        counters = self._reconciler.counters
        acquisitions = CounterMetricFamily(
            "jumpstarter_lease_acquisitions",
            "Leases that got an exporter, and leases that ended without one.",
            labels=["result"],
        )
        for result, count in counters.acquisitions.items():
            acquisitions.add_metric([result], count)
        yield acquisitions
        yield _histogram(
            "jumpstarter_lease_wait_seconds",
            "From when a lease could begin until it had an exporter.",
            counters.waits,
        )
        dials = CounterMetricFamily(
            "jumpstarter_dials",
            "Connections that clients asked for, by the answer's status.",
            labels=["code"],
        )
        for code, count in sorted(counters.dials.items()):
            dials.add_metric([code], count)
        yield dials
        requests = CounterMetricFamily(
            "jumpstarter_requests", "Calls that came, by method.", labels=["method"]
        )
        for method, count in sorted(counters.requests.items()):
            requests.add_metric([method], count)
        yield requests
        yield GaugeMetricFamily("jumpstarter_watches", "Clients that watch for changes.", counters.watches)
        yield _refusals(self._refusals, "Calls without a valid token.")
        yield _histogram("jumpstarter_store_write_seconds", "Each write to the disk.", counters.writes)
        yield CounterMetricFamily(
            "jumpstarter_store_failed_writes", "Writes that the disk did not take.", counters.failed_writes
        )
        yield CounterMetricFamily(
            "jumpstarter_journal_lost_entries", "What the journal could not keep.", self._audit_log.lost
        )

    def _exporters(self) -> Iterator[Metric]:
        reconciler = self._reconciler
        now = reconciler.clock()
        statuses: Counter[tuple[str, str]] = Counter()
        here: Counter[str] = Counter()
        for exporter in reconciler.committed.all(Exporter):
            statuses[exporter.namespace, exporter.status.name.lower()] += 1
            here[exporter.namespace] += online(exporter, reconciler.presence, now)
        by_status = GaugeMetricFamily(
            "jumpstarter_exporters", "Exporters, by what they last said.", labels=["namespace", "status"]
        )
        for labels, count in sorted(statuses.items()):
            by_status.add_metric(labels, count)
        yield by_status
        connected = GaugeMetricFamily(
            "jumpstarter_exporters_online",
            "Exporters that are registered and heard of.",
            labels=["namespace"],
        )
        for namespace, count in sorted(here.items()):
            connected.add_metric([namespace], count)
        yield connected

    def _leases(self) -> Iterator[Metric]:
        reconciler = self._reconciler
        now = reconciler.clock()
        states: Counter[tuple[str, str]] = Counter()
        for lease in reconciler.committed.open_leases():
            later = lease.begin_time is not None and lease.begin_time > now
            state = "active" if lease.accepted else "future" if later else "waiting"
            states[lease.namespace, state] += 1
        leases = GaugeMetricFamily(
            "jumpstarter_leases",
            "Leases that have not ended: active, waiting for an exporter, or for a time in the future.",
            labels=["namespace", "state"],
        )
        for labels, count in sorted(states.items()):
            leases.add_metric(labels, count)
        yield leases

    def _hosts(self) -> Iterator[Metric]:
        """Of exporters that are online; stored values of other exporters are outdated."""
        labels = ["namespace", "exporter"]
        findings = GaugeMetricFamily(
            "jumpstarter_host_findings",
            "What is wrong with the host of an exporter, by severity: warning or error.",
            labels=[*labels, "severity"],
        )
        gauges = {
            name: GaugeMetricFamily(f"jumpstarter_host_{name}", text, labels=labels)
            for name, text in HOST_MEASURES.items()
        }
        reconciler = self._reconciler
        now = reconciler.clock()
        for exporter in sorted(reconciler.committed.all(Exporter), key=lambda one: one.key):
            report = self._health.of(exporter)
            if report is None or not online(exporter, reconciler.presence, now):
                continue
            for severity in ("warning", "error"):
                count = sum(one.severity == severity for one in report.findings)
                findings.add_metric([*exporter.key, severity], count)
            for name, value in report.measures.items():
                if name in gauges:
                    gauges[name].add_metric(exporter.key, value)
        yield findings
        yield from gauges.values()


class RouterCollector(Collector):
    """Metrics of a router. Call `collect` in the thread of its streams."""

    def __init__(self, router: RouterService) -> None:
        self._router = router

    def collect(self) -> Iterator[Metric]:
        """All numbers, as they are now."""
        router = self._router
        streams = GaugeMetricFamily(
            "jumpstarter_router_streams", "Streams: joined pairs, and those that wait.", labels=["state"]
        )
        streams.add_metric(["joined"], router.pairs)
        streams.add_metric(["waiting"], router.waiting)
        yield streams
        carried = CounterMetricFamily(
            "jumpstarter_router_bytes", "Bytes that came in and that went out.", labels=["direction"]
        )
        carried.add_metric(["in"], router.received)
        carried.add_metric(["out"], router.sent)
        yield carried
        yield GaugeMetricFamily("jumpstarter_router_held_bytes", "Bytes in memory for streams.", router.held)
        yield CounterMetricFamily(
            "jumpstarter_router_full", "Streams rejected because the router was full.", router.refused
        )
        yield _refusals(router.refusals, "Streams without a valid token.", "router_")


def _refusals(refusals: RefusalLog, text: str, part: str = "") -> Metric:
    return CounterMetricFamily(f"jumpstarter_{part}authentication_refusals", text, refusals.total)


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    buckets = [
        ("+Inf" if math.isinf(bound) else str(float(bound)), float(count))
        for bound, count in histogram.cumulated()
    ]
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=histogram.total)
