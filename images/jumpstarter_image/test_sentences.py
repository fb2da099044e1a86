from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_image.fat import STATUS_BYTES
from jumpstarter_image.sentences import (
    DATA,
    MIN_FREE_BYTES,
    WIDTH,
    Board,
    Interface,
    StatusFacts,
    status_bytes,
    status_lines,
)

CABLE = Interface("eth0", is_wireless=False, is_connected=True, addresses=("192.168.1.20",))
WIFI = Interface("wlan0", is_wireless=True, is_connected=False)


def said(**facts: Any) -> str:
    return "\n".join(status_lines(StatusFacts(**{"hostname": "pi", "interfaces": (CABLE,), **facts})))


def test_a_host_that_is_well_says_who_and_where_it_is_and_what_it_has() -> None:
    board = Board("pi", "", "", ("ft232r-1.serial (serial) is ready.",))
    text = said(has_keys=True, enrolled="pi of lab:8082", endpoint="lab:8082", boards=(board,))
    assert text.splitlines() == [
        "Host name: pi.",
        "To log in: ssh lab@pi.local, or lab@ and one of the addresses below.",
        "Network cable (eth0): connected, 192.168.1.20.",
        "Time: known.",
        "Controller: this host is pi of lab:8082.",
        "Board pi: served.",
        "  ft232r-1.serial (serial) is ready.",
    ]


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"faults": ("jumpstarter.yaml: x",)}, "has an error and was not used; the previous settings stay"),
        ({"has_file": False}, "there is no jumpstarter.yaml beside this file"),
        (
            {"other_host": "pi2"},
            "another host on this network has the name pi, too, so the name of this one is pi2.local",
        ),
        ({}, "Nobody can log in by SSH: add `sshKeys`"),
        ({"interfaces": ()}, "no network interface"),
        ({"interfaces": (WIFI,)}, "Wi-Fi (wlan0): not set up."),
        ({"interfaces": (WIFI,), "wifi": "Lab"}, "not connected to Lab yet"),
        (
            {"interfaces": (WIFI,), "wifi": "Lab", "wifi_trouble": "key"},
            "the passphrase of Lab is wrong; write",
        ),
        ({"interfaces": (WIFI,), "wifi": "Lab", "wifi_trouble": "range"}, "the network Lab is not in range"),
        ({"wifi": "Lab"}, "this host has no Wi-Fi that Linux knows"),
        ({"is_time_known": False}, "no time server has answered; local use works"),
        ({"is_time_known": False, "is_controller": True}, "so this host uses its own clock, from three"),
        (
            {"is_time_known": False, "is_controller": True, "time_server": "ntp"},
            "the time server ntp has not answered",
        ),
        ({"is_time_known": False, "time_server": "ntp"}, "the time server ntp has not answered"),
        (
            {"refusal": "it is used.", "endpoint": "lab"},
            "at lab refused: it is used. This host tries again with a new",
        ),
        ({"trouble": "no such host"}, "not enrolled yet: no such host. This host tries again by itself"),
        ({"trouble": "is it there?"}, "not enrolled yet: is it there? This host tries again by itself"),
        ({"is_controller": True}, "this host is its own controller"),
        (
            {"endpoint": "lab:8082"},
            "Controller: none; lab:8082 needs a `pairingCode`: remove the # before it",
        ),
        ({}, "Controller: none; to lease these boards from elsewhere add `endpoint`"),
        ({"enrolled": "pi of old:1", "endpoint": "new:1"}, "names new:1; to move there, add a `pairingCode`"),
        ({}, "Boards: none; Jumpstarter knows none of the plugged-in devices"),
        ({"boards_trouble": "it does not run"}, "Boards: not known: it does not run."),
        ({"boards": (Board("pi", "no token."),)}, "Board pi: not served: no token."),
        ({"boards": (Board("pi", "", "in local use by ann", ("a",)),)}, "Board pi: in local use by ann."),
        ({"free_bytes": 5 * 1024**2}, "the card is too small or full, only 5 MB are free; use a larger card"),
        ({"read_only": ("the partition",)}, "the partition cannot be written"),
        ({"data": "mended"}, "was damaged and has been mended; look whether recordings"),
        ({"data": "missing"}, "so what changes now is forgotten when the power goes"),
        ({"data": "broken"}, "damaged beyond mending"),
        ({"data": "read-only"}, "cannot be written any more"),
        ({"problems": ("it burns",)}, "Problem: it burns."),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(facts: dict[str, Any], sentence: str) -> None:
    assert sentence in said(**facts)


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"free_bytes": MIN_FREE_BYTES}, "MB are free"),
        ({"free_bytes": None}, "MB are free"),
        ({"is_root_writable": True, "updates": ("Update: do not switch this host off.",)}, "sudo reboot"),
        ({"faults": ("x",), "has_file": False}, "there is no jumpstarter.yaml"),
        ({"wifi": "Lab", "interfaces": (WIFI,)}, "has no Wi-Fi that Linux knows"),
        ({"enrolled": "pi of lab:1", "endpoint": "lab:1"}, "to move there"),
        ({"enrolled": "pi of lab:1"}, "to move there"),
        ({"enrolled": "pi of lab:1", "is_controller": True}, "about to be enrolled"),
        ({"data": "kept"}, "Problem: this card"),
    ],
)
def test_what_is_well_is_not_complained_about(facts: dict[str, Any], sentence: str) -> None:
    assert sentence not in said(**facts)


def test_a_host_that_others_call_otherwise_is_logged_into_by_that_name() -> None:
    assert "ssh lab@pi2.local" in said(has_keys=True, other_host="pi2")
    unplugged = Interface("eth0", is_wireless=False, is_connected=False)
    alone = Interface("eth1", is_wireless=False, is_connected=True)
    text = said(interfaces=(CABLE, unplugged, alone), free_bytes=MIN_FREE_BYTES - 1, is_root_writable=True)
    assert "Network cable (eth0): not connected." in text
    assert "Network cable (eth1): connected, but without an address; check the network's DHCP server" in text
    assert "only 63 MB are free" in text
    assert "when this host is not in use, run: sudo reboot" in text


def test_a_host_with_many_devices_says_how_to_see_the_rest() -> None:
    text = said(boards=tuple(Board(f"pi-{number}", "", "", ("one", "two")) for number in range(40)))
    assert "Board pi-0: served." in text
    assert "  and 80 lines more: jumpstarter-exporter boards" in text


@given(st.lists(st.text(max_size=300), max_size=20))
def test_the_file_is_for_windows_of_any_editor(lines: list[str]) -> None:
    text = status_bytes(status_lines(StatusFacts("pi", problems=tuple(lines)))).decode()
    assert "\n" not in text.replace("\r\n", "")
    assert "\r" not in text.replace("\r\n", "")
    assert all(len(line) <= WIDTH for line in text.split("\r\n"))
    assert text.isprintable() or set(filter(lambda one: not one.isprintable(), text)) <= {"\r", "\n"}


def test_a_usual_status_fits_the_file() -> None:
    boards = tuple(
        Board(f"pi-{number}", "", "", ("a-device.serial (serial) is ready.",)) for number in range(20)
    )
    assert (
        len(status_bytes(status_lines(StatusFacts("pi", faults=("x" * 300,), boards=boards)))) < STATUS_BYTES
    )


def test_a_file_with_a_thousand_faults_leaves_space_for_how_to_reach_the_host() -> None:
    facts = StatusFacts(
        "pi", faults=tuple(f"fault {number} {'x' * 300}" for number in range(1000)), has_keys=True
    )
    text = status_bytes(status_lines(facts))[:STATUS_BYTES].decode()
    assert "fault 9 " in text
    assert "fault 10 " not in text
    assert "and 990 more: jumpstarter-image check jumpstarter.yaml" in text
    assert "To log in: ssh lab@pi.local" in text


def test_facts_hold_no_secret() -> None:
    """Not even a place for one: they are shown."""
    names = {
        field.name
        for field in msgspec.structs.fields(msgspec.defstruct("F", list(StatusFacts.__annotations__)))
    }
    assert not {name for name in names if "passphrase" in name or "code" in name}


def test_every_word_of_the_initial_file_system_has_its_sentence() -> None:
    script = Path(__file__).parents[1] / "rootfs/etc/initramfs-tools/scripts/init-bottom/lasting"
    words = set(re.findall(r"\bstate=([a-z-]+)", script.read_text()))
    assert words == {"kept", *DATA}
