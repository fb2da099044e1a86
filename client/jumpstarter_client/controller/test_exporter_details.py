"""An exporter with its devices, as people and scripts see it."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO

import pytest
import trio
import trio.testing
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.lab.v1 import exporter_pb2, exporters_grpc
from jumpstarter_proto.lab.v1 import exporters_pb2 as pb
from jumpstarter_proto.rpc import Servicer, open_channel, serve_connection
from jumpstarter_proto.terminal import print_line

from jumpstarter_client.cli.output import table
from jumpstarter_client.controller.controller_client import ControllerCalls
from jumpstarter_client.controller.exporter_view import (
    describe_exporter,
    describe_problems,
    details_as_data,
    device_rows,
    exporter_views,
)
from jumpstarter_client.node import Allowed
from jumpstarter_client.times import format_time

EVIL = "evil\x1b[2J\rname\u202e\n"
(SEEN,) = exporter_views([client_pb2.Exporter(name="namespaces/lab/exporters/one", online=True)], [])
OF_JUMPSTARTERS_OWN = pb.ExporterDetails(
    name="one", devices=[pb.Device(path="power", client="jumpstarter_driver_power.client.PowerClient")]
)


class Lab(exporters_grpc.LabServiceServicer):
    """Two pages of exporters."""

    async def GetExporterDetails(  # noqa: N802
        self, request: pb.GetExporterDetailsRequest, call: object
    ) -> pb.ExporterDetails:
        return pb.ExporterDetails(name=request.name, omitted_devices=1)

    async def ListExporterDetails(  # noqa: N802
        self, request: pb.ListExporterDetailsRequest, call: object
    ) -> pb.ListExporterDetailsResponse:
        name = "two" if request.page_token else "one"
        return pb.ListExporterDetailsResponse(
            exporters=[pb.ExporterDetails(name=name)], next_page_token="" if request.page_token else "one"
        )


async def ask(*services: Servicer) -> tuple[pb.ExporterDetails | None, dict[str, pb.ExporterDetails] | None]:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_connection, theirs, services)
        async with open_channel(ours) as channel:
            calls = ControllerCalls(channel, "namespaces/lab")
            found = await calls.exporter_details("one"), await calls.all_exporter_details()
        nursery.cancel_scope.cancel()
    return found


async def test_all_pages_are_asked_for() -> None:
    one, all_of_them = await ask(Lab())
    assert one == pb.ExporterDetails(name="one", omitted_devices=1)
    assert list(all_of_them or ()) == ["one", "two"]


async def test_what_a_controller_does_not_tell_is_said_to_be_not_known() -> None:
    assert await ask() == (None, None)
    assert details_as_data(None, Allowed()) == {
        "reasons": None,
        "devices": None,
        "omitted_devices": None,
        "hooks": None,
        "host": None,
        "gone_since": None,
        "health": None,
    }
    assert list(describe_exporter(SEEN, None))[-1].startswith("devices:  unknown to this controller")


def test_devices_of_jumpstarters_own_exporter_have_an_interface_and_no_state() -> None:
    assert device_rows(OF_JUMPSTARTERS_OWN, Allowed()) == [("power", "power", "", "")]
    data = details_as_data(OF_JUMPSTARTERS_OWN, Allowed())["devices"]
    assert isinstance(data, list)
    assert (data[0]["interface"], data[0]["state"]) == ("power", "")


def test_what_an_exporter_says_of_its_devices_does_nothing_to_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    details = pb.ExporterDetails(
        name="one",
        devices=[pb.Device(path=EVIL, interface=EVIL, state=EVIL, reason=EVIL)],
        omitted_devices=3,
        reasons=[exporter_pb2.Reason(code=EVIL, sentence=EVIL)],
        health=pb.HostHealth(
            findings=[exporter_pb2.HealthFinding(key=EVIL, severity="error", sentence=EVIL, cure=EVIL)]
        ),
    )
    rows = table(("DEVICE", "INTERFACE", "STATE", "REASON"), device_rows(details, Allowed()))
    assert rows.count("\n") == 2
    seen = exporter_views(
        [client_pb2.Exporter(name=f"namespaces/lab/exporters/{EVIL}", labels={EVIL: EVIL})], []
    )[0]
    out = StringIO()
    with redirect_stdout(out):
        for line in describe_exporter(seen, details):
            print_line(line)
    assert all(line.isprintable() for line in (rows + out.getvalue()).split("\n"))
    assert "1, and 3 more that the controller does not keep" in out.getvalue()


def test_an_exporter_for_people_is_all_that_is_known_of_it() -> None:
    one = client_pb2.Exporter(
        name="namespaces/lab/exporters/one",
        online=True,
        status="EXPORTER_STATUS_AFTER_LEASE_HOOK",
        status_message="it cleans up",
        labels={"model": "4", "board": "rpi4"},
    )
    lease = client_pb2.Lease(
        name="namespaces/lab/leases/x", client="namespaces/lab/clients/ann", exporter=one.name
    )
    lease.end_time.FromSeconds(2_000_000_000)
    details = pb.ExporterDetails(
        name="one", host="pi-7", reasons=[exporter_pb2.Reason(code="CLEANING", sentence="it cleans up")]
    )
    labels = ["label:    board=rpi4", "label:    model=4"]
    none = "devices:  none"
    (busy,) = exporter_views([one], [])
    assert list(describe_exporter(busy, details)) == [
        "name:     one",
        "state:    busy: it cleans up",
        "host:     pi-7",
        "reason:   it cleans up (CLEANING)",
        *labels,
        none,
    ]
    (held,) = exporter_views([one], [lease])
    assert list(describe_exporter(held, pb.ExporterDetails(name="one"))) == [
        "name:     one",
        "state:    leased",
        "held by:  ann",
        "lease:    x",
        f"until:    {format_time(2_000_000_000)}",
        *labels,
        none,
    ]


def test_the_health_of_a_host_is_its_problems_for_people_and_everything_for_scripts() -> None:
    def finding(severity: str) -> exporter_pb2.HealthFinding:
        key = f"disk.{severity}"
        return exporter_pb2.HealthFinding(key=key, severity=severity, sentence="it is so", cure="do this")

    bad = pb.HostHealth(
        findings=[finding("error"), finding("warning"), finding("ok")], measures={"temperature_celsius": 51.5}
    )
    bad.reported.FromSeconds(1_795_000_000)
    seen = pb.ExporterDetails(name="one", health=bad)
    lines = list(describe_exporter(SEEN, seen))
    (start,) = [number for number, line in enumerate(lines) if line.startswith("health:")]
    assert lines[start].startswith("health:   1 error and 1 warning, reported at 2026-11-")
    assert not any(line.startswith(("error:", "warning:")) for line in lines)
    assert describe_problems(seen) == ["error:    it is so; do this", "warning:  it is so; do this"]
    told = details_as_data(pb.ExporterDetails(name="one", health=bad), Allowed())["health"]
    assert isinstance(told, dict)
    assert [one["severity"] for one in told["findings"]] == ["error", "warning", "ok"]
    assert (told["measures"], told["omitted_findings"]) == ({"temperature_celsius": 51.5}, 0)
    good = pb.HostHealth(findings=[finding("ok")])
    (said,) = [
        line
        for line in describe_exporter(SEEN, pb.ExporterDetails(name="one", health=good))
        if line.startswith("health:")
    ]
    assert said.startswith("health:   good, reported at")
