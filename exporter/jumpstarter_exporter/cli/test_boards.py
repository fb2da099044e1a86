"""`jumpstarter-exporter boards` and `forget`: what people and scripts read of a host's boards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.lab.v1 import host_pb2
from jumpstarter_proto.lab.v1.host_grpc import HostServiceServicer
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode
from jumpstarter_proto.v1.jumpstarter_pb2 import DriverInstanceReport, GetReportResponse

from jumpstarter_exporter.cli.boards import forget_device, list_boards
from jumpstarter_exporter.cli.conftest import host_served
from jumpstarter_exporter.serve.discovered_devices import IDENTITY, IDENTITY_REASON, PROFILE
from jumpstarter_exporter.session.report import INTERFACE, NAME, REASON, STATE

Capture = pytest.CaptureFixture[str]


def reports() -> list[DriverInstanceReport]:
    """A root, a group in it, a device in that, and one that is a device and has another below it."""
    found = [DriverInstanceReport(uuid="0")]
    for uuid, parent, labels in (
        ("1", "0", {NAME: "ft232r", INTERFACE: "composite"}),
        (
            "2",
            "1",
            {
                NAME: "serial",
                INTERFACE: "serial",
                STATE: "missing",
                REASON: "it is unplugged",
                IDENTITY: "serial number",
                IDENTITY_REASON: "nothing else here has it",
                PROFILE: "serial-adapter",
            },
        ),
        ("3", "0", {NAME: "power", INTERFACE: "power", STATE: "ready"}),
        ("4", "3", {NAME: "meter", INTERFACE: "meter", STATE: "busy"}),
        ("5", "0", {NAME: "empty", INTERFACE: "composite"}),
    ):
        found.append(DriverInstanceReport(uuid=uuid, parent_uuid=parent, labels=labels))
    return found


BOARDS = host_pb2.ListBoardsResponse(
    boards=[
        host_pb2.Board(
            name="pi4",
            discovered=True,
            report=GetReportResponse(reports=reports()),
            exporter="exporter lab/pi4 of lab:8082",
            use="leased by ann",
            change="its file has changed",
        ),
        host_pb2.Board(
            name="rock", file="/etc/jumpstarter/rock.yaml", problem="its file is\x1b gone", use="no"
        ),
        host_pb2.Board(name="desk", file="/etc/desk.yaml", use="drained"),
        host_pb2.Board(name="shelf", discovered=True),
    ],
    unassigned=[host_pb2.UnassignedDevice(name="cp2102.serial", reason="no board names it")],
    problems=["boards.yaml: a mistake"],
)


class Host(HostServiceServicer):
    """Has these, or nothing."""

    def __init__(self, listed: host_pb2.ListBoardsResponse) -> None:
        self.listed = listed
        self.forgotten: list[str] = []

    async def ListBoards(  # noqa: N802 - the wire's name
        self,
        request: host_pb2.ListBoardsRequest,
        call: ServerCall[host_pb2.ListBoardsRequest, host_pb2.ListBoardsResponse],
    ) -> host_pb2.ListBoardsResponse:
        return self.listed

    async def Forget(  # noqa: N802
        self,
        request: host_pb2.ForgetRequest,
        call: ServerCall[host_pb2.ForgetRequest, host_pb2.ForgetResponse],
    ) -> host_pb2.ForgetResponse:
        if request.device != "old.serial":
            raise RpcError(StatusCode.NOT_FOUND, f"no device {request.device} was discovered")
        self.forgotten.append(request.device)
        return host_pb2.ForgetResponse()


@pytest.fixture
def host() -> Host:
    return Host(BOARDS)


@pytest.fixture
def socket(tmp_path: Path, host: Host) -> Iterator[Path]:
    path = tmp_path / "exporter.sock"
    with host_served(host, path):
        yield path


def test_people_read_of_each_board_where_it_is_from_who_has_it_and_its_devices(
    socket: Path, host: Host, capsys: Capture
) -> None:
    assert list_boards(output="text", socket=socket) == ExitCode.OK
    assert capsys.readouterr().out.splitlines() == [
        "pi4  discovered",
        "  exporter lab/pi4 of lab:8082",
        "  leased by ann",
        "  its file has changed",
        "  ft232r.serial  serial missing: it is unplugged",
        "    known by its serial number: nothing else here has it",
        "  power  power ready",
        "  power.meter  meter busy",
        "  empty  composite ",
        "rock  /etc/jumpstarter/rock.yaml",
        r"  not served: its file is\x1b gone",
        "desk  /etc/desk.yaml",
        "  of no controller: it has no token; jumpstarter-exporter enrol HOST:PORT --config /etc/desk.yaml",
        "  drained",
        "  no devices",
        "shelf  discovered",
        "  of no controller: it has no token; jumpstarter-exporter enrol HOST:PORT --board shelf",
        "  no devices",
        "Unassigned",
        "  cp2102.serial: no board names it",
        "boards.yaml: a mistake",
    ]
    host.listed = host_pb2.ListBoardsResponse()
    assert list_boards(output="text", socket=socket) == ExitCode.OK
    assert capsys.readouterr().out == "this host has no board\n"


def test_scripts_read_all_of_it(socket: Path, capsys: Capture) -> None:
    assert list_boards(output="json", socket=socket) == ExitCode.OK
    found = json.loads(capsys.readouterr().out)
    assert list_boards(output="yaml", socket=socket) == ExitCode.OK
    assert yaml.safe_load(capsys.readouterr().out) == found
    assert list_boards(output="name", socket=socket) == ExitCode.OK
    assert capsys.readouterr().out == "pi4\nrock\ndesk\nshelf\n"
    pi4, rock, desk, _ = found["boards"]
    devices = {one["path"]: one for one in pi4.pop("devices")}
    assert pi4 == {
        "name": "pi4",
        "discovered": True,
        "file": None,
        "exporter": "exporter lab/pi4 of lab:8082",
        "problem": None,
        "use": "leased by ann",
        "change": "its file has changed",
    }
    assert (rock["problem"], rock["file"]) == ("its file is\x1b gone", "/etc/jumpstarter/rock.yaml")
    assert (desk["discovered"], desk["use"], desk["change"], desk["exporter"]) == (
        False,
        "drained",
        None,
        None,
    )
    assert set(devices) == {"ft232r.serial", "power", "power.meter", "empty"}
    assert devices["ft232r.serial"] == {
        "path": "ft232r.serial",
        "uuid": "2",
        "interface": "serial",
        "state": "missing",
        "reason": "it is unplugged",
        "identity": "serial number",
        "identity_reason": "nothing else here has it",
        "profile": "serial-adapter",
    }
    assert found["unassigned"] == [{"name": "cp2102.serial", "reason": "no board names it"}]
    assert found["problems"] == ["boards.yaml: a mistake"]


def test_a_device_is_forgotten_or_the_exporter_says_why_not(
    socket: Path, host: Host, capsys: Capture
) -> None:
    assert forget_device("old.serial", socket=socket) == ExitCode.OK
    assert host.forgotten == ["old.serial"]
    assert capsys.readouterr().out == "old.serial is forgotten\n"
    with pytest.raises(RpcError, match=r"no device x\.serial was discovered") as caught:
        forget_device("x.serial", socket=socket)
    assert caught.value.exit_code is ExitCode.NOT_FOUND
