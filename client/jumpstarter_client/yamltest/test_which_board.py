"""Which of a host's boards a test in YAML means."""

from __future__ import annotations

from pathlib import Path

import pytest
from jumpstarter_proto.errors import JumpstarterError

from jumpstarter_client.command_errors import UnknownDeviceError
from jumpstarter_client.devices.test_board_selection import GONE, ROCK, board, switch
from jumpstarter_client.yamltest.model import calls
from jumpstarter_client.yamltest.reader import read
from jumpstarter_client.yamltest.which_board import choose_board_of_test

SOLO = board("solo", switch("solo", "lamp"))
TWIN = board("twin", switch("twin", "relay3"), switch("twin", "relay4"))


def chosen(folder: Path, text: str) -> tuple[str, str | None, list[str | None]]:
    """The board, and the test's `board` and the devices of its steps as they are on that board."""
    file = folder / "a.yaml"
    file.write_text(text)
    found, test = choose_board_of_test([ROCK, TWIN, SOLO, GONE], read(file))
    return found.name, test.board, [call.device for call in calls(test.steps + test.always)]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("steps: [{power.on: , device: twin.relay4}]", ("twin", None, ["relay4"])),
        ("steps: [{power.on: , device: solo}]", ("solo", None, [None])),
        (
            "steps: [{group: [{power.on: , device: rock.relay3}]}]\nalways: [{power.off: , device: relay4}]",
            ("rock", None, ["relay3", "relay4"]),
        ),
        ("board: twin\nsteps: [{power.on: , device: twin.relay4}]", ("twin", None, ["relay4"])),
        ("board: twin.relay3\nsteps: [power.on]", ("twin", "relay3", [None])),
    ],
)
def test_a_test_or_a_step_of_it_names_the_board(
    tmp_path: Path, text: str, meant: tuple[str, str | None, list[str | None]]
) -> None:
    assert chosen(tmp_path, text) == meant


def test_a_step_on_a_board_that_is_not_served_says_why(tmp_path: Path) -> None:
    with pytest.raises(JumpstarterError, match="the board gone is not served: its process has ended"):
        chosen(tmp_path, "steps: [{power.on: , device: gone.power}]")


def test_a_device_that_no_board_has_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnknownDeviceError, match="no board of this host has what the test uses"):
        chosen(tmp_path, "steps: [{power.on: , device: pine.power}]")
