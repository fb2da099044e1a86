"""A host's health as far as its boards depend on it: facts, and findings that are made of them."""

from jumpstarter_exporter.host_health.facts import HostFacts, Unread
from jumpstarter_exporter.host_health.findings import AREAS, HealthFinding, Severity, area_of
from jumpstarter_exporter.host_health.judge import judge, measure
from jumpstarter_exporter.host_health.look import HostLook

__all__ = [
    "AREAS",
    "HealthFinding",
    "HostFacts",
    "HostLook",
    "Severity",
    "Unread",
    "area_of",
    "judge",
    "measure",
]
