"""Field by field: what 0.9.0 puts on the wire, we put on the wire, and nothing more than we list here.

Each side is loaded by a process of its own, because one process cannot hold both sets of messages.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.peers import ROOT, Environment

Contract = dict[str, dict[str, Any]]

pytestmark = pytest.mark.cold  # one process has one set of descriptors
DUMP = Path(__file__).with_name("dump.py")
PARTS = ("common", "jumpstarter", "kubernetes", "router")
OURS = [
    f"jumpstarter_proto.{name}_pb2"
    for name in (
        "v1.common",
        "v1.jumpstarter",
        "v1.kubernetes",
        "v1.router",
        "v1.telemetry",
        "client.v1.client",
    )
]
THEIRS = [
    f"jumpstarter_protocol.jumpstarter.{name}_pb2"
    for name in (*(f"v1.{part}" for part in PARTS), "client.v1.client")
]

# What comes after 0.9.0: fields by number and type, whole messages, and calls. Old peers skip or refuse them.
NEW_FIELDS = {
    "jumpstarter.client.v1.Lease.context": (15, "map"),
    "jumpstarter.v1.DriverInstanceReport.file_descriptor_proto": (6, "TYPE_BYTES"),
    "jumpstarter.v1.DriverInstanceReport.native_services": (7, "TYPE_STRING"),
    "jumpstarter.v1.GetReportResponse.motd": (5, "TYPE_STRING"),
    "jumpstarter.v1.LogStreamResponse.driver_type": (5, "TYPE_STRING"),
    "jumpstarter.v1.LogStreamResponse.operation": (6, "TYPE_STRING"),
    "jumpstarter.v1.LogStreamResponse.timestamp": (7, "google.protobuf.Timestamp"),
    "jumpstarter.v1.LogStreamResponse.structured_fields": (8, "map"),
    "jumpstarter.v1.StatusResponse.context": (4, "map"),
    "jumpstarter.v1.GetServiceEndpointsResponse.telemetry_endpoints": (1, "jumpstarter.v1.TelemetryEndpoint"),
    "jumpstarter.v1.TelemetryEndpoint.endpoint": (1, "TYPE_STRING"),
    "jumpstarter.v1.TelemetryEndpoint.certificate": (2, "TYPE_STRING"),
    "jumpstarter.v1.TelemetryEndpoint.min_severity": (3, "TYPE_STRING"),
    "jumpstarter.v1.LogEntry.timestamp": (1, "google.protobuf.Timestamp"),
    "jumpstarter.v1.LogEntry.severity": (2, "TYPE_STRING"),
    "jumpstarter.v1.LogEntry.message": (3, "TYPE_STRING"),
    "jumpstarter.v1.LogEntry.component": (4, "TYPE_STRING"),
    "jumpstarter.v1.LogEntry.exporter": (5, "TYPE_STRING"),
    "jumpstarter.v1.LogEntry.lease": (6, "TYPE_STRING"),
    "jumpstarter.v1.LogEntry.client": (7, "TYPE_STRING"),
    "jumpstarter.v1.LogEntry.operation": (8, "TYPE_STRING"),
    "jumpstarter.v1.LogEntry.result": (9, "TYPE_STRING"),
    "jumpstarter.v1.LogEntry.driver_type": (10, "TYPE_STRING"),
    "jumpstarter.v1.LogEntry.extra_fields": (11, "map"),
    "jumpstarter.v1.LogEntry.namespace": (12, "TYPE_STRING"),
    "jumpstarter.v1.PushLogsRequest.entries": (1, "jumpstarter.v1.LogEntry"),
    "jumpstarter.v1.PushLogsResponse.accepted": (1, "TYPE_UINT32"),
    "jumpstarter.v1.PushLogsResponse.dropped": (2, "TYPE_UINT32"),
}
NEW_MESSAGES = {
    "jumpstarter.v1.GetServiceEndpointsRequest",
    "jumpstarter.v1.GetServiceEndpointsResponse",
    "jumpstarter.v1.TelemetryEndpoint",
    "jumpstarter.v1.LogEntry",
    "jumpstarter.v1.PushLogsRequest",
    "jumpstarter.v1.PushLogsResponse",
}
NEW_METHODS = {
    "jumpstarter.v1.ControllerService.GetServiceEndpoints",
    "jumpstarter.v1.TelemetryService.PushLogs",
}


def dump(python: Path, modules: list[str]) -> Contract:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    result = subprocess.run(
        [python, str(DUMP), *modules], capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )
    contract: Contract = json.loads(result.stdout)
    return contract


@pytest.fixture(scope="module")
def ours() -> Contract:
    return dump(Path(sys.executable), OURS)


@pytest.fixture(scope="module")
def theirs(upstream: Environment) -> Contract:
    return dump(upstream.python, THEIRS)


def test_everything_of_0_9_0_is_there_and_equal(ours: Contract, theirs: Contract) -> None:
    assert len(theirs) > 200, "the dump of the peer is too small to be its whole contract"
    differences = {
        name: {"theirs": entry, "ours": ours.get(name)}
        for name, entry in theirs.items()
        if ours.get(name) != entry
    }
    assert differences == {}


def test_what_is_new_since_0_9_0_is_what_we_list(ours: Contract, theirs: Contract) -> None:
    new = {name: entry for name, entry in ours.items() if name not in theirs}
    maps = {name for name, entry in new.items() if entry.get("map_entry")}
    fields = {
        name: (entry["number"], "map" if entry["of"] in maps else entry["of"] or entry["type"])
        for name, entry in new.items()
        if "type" in entry and name.rpartition(".")[0] not in maps
    }
    assert fields == NEW_FIELDS
    assert {name for name, entry in new.items() if "message" in entry} - maps == NEW_MESSAGES
    assert {name for name, entry in new.items() if "request" in entry} == NEW_METHODS
    assert [name for name, entry in new.items() if "enum" in entry] == []


def test_new_maps_are_of_strings(ours: Contract) -> None:
    for name, (_, kind) in NEW_FIELDS.items():
        if kind == "map":
            entry = ours[name]["of"]
            assert {ours[f"{entry}.{part}"]["type"] for part in ("key", "value")} == {"TYPE_STRING"}


@pytest.mark.parametrize(
    ("theirs", "mine"),
    [
        ("grpc_health.v1.health_pb2", ["jumpstarter_proto.health.v1.health_pb2"]),
        ("grpc_reflection.v1alpha.reflection_pb2", ["jumpstarter_proto.reflection.v1alpha.reflection_pb2"]),
    ],
)
def test_health_and_reflection_are_grpcs_own(theirs: str, mine: list[str]) -> None:
    assert dump(Path(sys.executable), [theirs]) == dump(Path(sys.executable), mine)


def test_both_versions_of_reflection_differ_in_name_only() -> None:
    """One handler serves both."""
    old, new = (
        json.dumps(dump(Path(sys.executable), [f"jumpstarter_proto.reflection.{version}.reflection_pb2"]))
        for version in ("v1alpha", "v1")
    )
    assert old.replace("reflection.v1alpha", "reflection.v1") == new
