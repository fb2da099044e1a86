"""Which board a command means, and what it costs to find out."""

from __future__ import annotations

import re
from typing import Any

import pytest
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.rpc import Channel
from jumpstarter_proto.v1.jumpstarter_pb2 import DriverInstanceReport, GetReportResponse

from jumpstarter_client.cli.conftest import Command
from jumpstarter_client.command_errors import UnknownDeviceError, UsageError
from jumpstarter_client.conftest import POWER, FakeExporter, entry
from jumpstarter_client.devices.board_selection import choose_board, choose_board_of_tree
from jumpstarter_client.host_boards import HostBoard
from jumpstarter_client.node import Allowed
from jumpstarter_client.tree import build_tree


def board(name: str, *devices: DriverInstanceReport, called: str = "") -> HostBoard:
    reports = [entry(f"{name}-root"), *devices]
    labels = {"jumpstarter.dev/name": called} if called else {}
    report = GetReportResponse(reports=reports, labels=labels)
    return HostBoard(name, root=build_tree(report, None, Allowed()))  # type: ignore[arg-type]


def switch(of: str, name: str) -> DriverInstanceReport:
    return entry(f"{of}-{name}", name, f"{of}-root", POWER)


RPI5 = board("rpi5", switch("rpi5", "power"), called="rpi5")
ROCK = board("rock", switch("rock", "relay3"), switch("rock", "relay4"))
NAMESAKE = board("pine", switch("pine", "rock"), switch("pine", "power"))
GONE = HostBoard("gone", problem="its process has ended")


def chosen(boards: list[HostBoard], *arguments: str, takes_arguments: bool = False) -> tuple[str, list[str]]:
    found, rest = choose_board(boards, "power", list(arguments), takes_arguments)
    return found.name, rest


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["rpi5"], ("rpi5", ["power"])),
        (["rpi5.power"], ("rpi5", ["power"])),
        (["relay3"], ("rock", ["relay3"])),
        (["rock.relay4"], ("rock", ["relay4"])),
        (["--wait", "2", "rock.relay4"], ("rock", ["--wait", "2", "relay4"])),
        (["rpi5", "--", "relay3"], ("rpi5", ["power", "--", "relay3"])),
    ],
)
def test_a_board_or_a_device_is_named(arguments: list[str], meant: tuple[str, list[str]]) -> None:
    assert chosen([ROCK, RPI5, GONE], *arguments) == meant


def test_without_a_name_it_is_the_only_device_of_all_boards_that_are_known() -> None:
    empty = board("empty")
    assert chosen([RPI5, empty]) == ("rpi5", [])
    assert chosen([RPI5, empty], "5s", takes_arguments=True) == ("rpi5", ["5s"])
    with pytest.raises(UsageError, match=r"several devices; name one of rpi5.power, or select a board"):
        chosen([RPI5, GONE])


def test_what_can_mean_several_is_an_error_that_names_them() -> None:
    with pytest.raises(UsageError, match=r"'power' is ambiguous; use one of rpi5\.power, pine\.power"):
        chosen([RPI5, NAMESAKE], "power")
    with pytest.raises(
        UsageError, match=r"'rock' is ambiguous; use one of rock\.relay3, rock\.relay4, pine\.rock"
    ):
        chosen([ROCK, NAMESAKE], "rock")


def test_a_board_that_is_not_served_is_not_taken_for_a_device_of_another() -> None:
    namesake = board("pine", switch("pine", "gone"))
    for word in ("gone", "gone.power"):
        with pytest.raises(JumpstarterError, match="the board gone is not served: its process has ended"):
            chosen([namesake, GONE], word)


def test_what_no_board_has_is_an_error_that_names_what_there_is() -> None:
    with pytest.raises(UnknownDeviceError, match=r"'relay5' .*did you mean .*relay"):
        chosen([ROCK, RPI5], "relay5")
    with pytest.raises(UnknownDeviceError, match="the board empty has no device with the interface 'power'"):
        chosen([ROCK, board("empty")], "empty")


def test_a_board_whose_device_could_not_be_made_is_answered_with_the_reason() -> None:
    def broken(number: int) -> DriverInstanceReport:
        return entry(
            f"broken-{number}",
            f"relay{number}",
            "broken-root",
            client="",
            state="failed",
            reason=f"rpi4.yaml:{number}:5: unknown type",
        )

    with pytest.raises(
        UnknownDeviceError, match=r"it has no devices; relay1 has failed: rpi4.yaml:1:5: unknown"
    ):
        chosen([ROCK, board("broken", broken(1))], "broken")
    with pytest.raises(
        UnknownDeviceError, match=r"relay3 has failed.*; 2 more have failed: jumpstarter devices"
    ):
        chosen([ROCK, board("broken", *map(broken, range(1, 6)))], "broken")


def test_the_only_board_of_a_host_costs_no_further_calls(
    command: Command, lab: FakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    unary = Channel.unary

    async def counted(self: Channel, method: Any, *arguments: Any, **named: Any) -> Any:
        made.append(method.path.rpartition("/")[2])
        return await unary(self, method, *arguments, **named)

    monkeypatch.setattr(Channel, "unary", counted)
    assert command("jumpstarter", "power", "on", "rpi4").code == 0
    assert made == ["GetReport", "DriverCall"]
    assert lab.called


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["relay3", "on"], ("rock", ["relay3", "on"])),
        (["rpi5", "power", "on"], ("rpi5", ["power", "on"])),
        (["rock"], ("rock", [])),
    ],
)
def test_the_first_word_of_a_path_is_a_boards_or_a_devices(
    words: list[str], meant: tuple[str, list[str]]
) -> None:
    found, rest = choose_board_of_tree([ROCK, RPI5, GONE], words)
    assert (found.name, rest) == meant


@pytest.mark.parametrize(
    ("words", "error", "why"),
    [
        ([], UsageError, "this host has the boards rock, rpi5, pine, gone; name one first: j rock"),
        (["power", "on"], UsageError, "use one of: j rpi5 power, j pine power"),
        (["rock", "on"], UsageError, "use one of: j pine rock, j --board rock"),
        (["gone", "power"], JumpstarterError, "the board gone is not served: its process has ended"),
        (["moon"], UnknownDeviceError, "no board of this host has a device 'moon'"),
    ],
)
def test_a_path_that_can_be_of_several_boards_or_of_none_is_an_error(
    words: list[str], error: type[JumpstarterError], why: str
) -> None:
    with pytest.raises(error, match=re.escape(why)):
        choose_board_of_tree([ROCK, RPI5, NAMESAKE, GONE], words)
