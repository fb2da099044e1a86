"""Ports that no attribute of the kernel's switches, by control transfers that libusb sends, and that umockdev replays.

umockdev knows neither transfers that fail nor hubs that lie: those are answered by the scripted backend of
`test_hub_port`.
"""

from __future__ import annotations

import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

import pytest

from tests.support.umockdev import require_umockdev
from tests.support.usb_pcap import HUB, Replay, hub_tree

DESCRIPTOR = "a0 06 0029 0000 4700"
PER_PORT = "09 29 04 0900 32 64 00 ff"
ON, OFF, ON_WITH_DEVICE = "0001 0000", "0000 0000", "0101 0000"
DESCRIBED = "port 1-1.3 of 1-1 (0451:8142 Hub), by control transfers, per port"
SWITCH = """
import logging, sys
from jumpstarter_exporter.driver import DeviceFailed
from jumpstarter_drivers.power.usb_hub import switch
from jumpstarter_drivers.power.usb_hub.topology import parse_port

switch.HOLD_SECONDS = 0.0  # else nobody knows how often the hub is asked whether the port stays off
port = switch.SocketSwitch(parse_port("1-1.3"), log=logging.getLogger())
for word in sys.argv[1:]:
    try:
        port.switch(on=word == "on")
        print(word)
    except DeviceFailed as error:
        print(error)
print(port.describe())  # which is asked for last, so that all before has been, too
"""


def status(port: int) -> str:
    return f"a3 00 0000 {port:02x}00 0400"


def power(port: int, *, on: bool) -> str:
    return f"23 {'03' if on else '01'} 0800 {port:02x}00 0000"


def others(replay: Replay, answer: str = ON) -> Replay:
    for port in (1, 2, 4):
        replay.asked(status(port), answer)
    return replay


def run(replay: Replay, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Switch the port as the words say, and describe it."""
    require_umockdev()
    if find_library("usb-1.0") is None:
        pytest.skip("missing: libusb; apt install libusb-1.0-0")
    (folder / "hub.umockdev").write_text(hub_tree())
    replay.asked(DESCRIPTOR, PER_PORT).write(folder / "hub.pcap")
    files = [f"--device={folder / 'hub.umockdev'}", f"--pcap=/sys{HUB}={folder / 'hub.pcap'}"]
    return subprocess.run(
        ["umockdev-run", *files, "--", sys.executable, "-c", SWITCH, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_port_is_switched_and_its_status_read_back_as_usb_says(tmp_path: Path) -> None:
    replay = others(Replay().asked(DESCRIPTOR, PER_PORT)).asked(power(3, on=False)).asked(status(3), OFF)
    others(replay).asked(DESCRIPTOR, PER_PORT).asked(power(3, on=True)).asked(status(3), ON_WITH_DEVICE)
    done = run(replay, tmp_path, "off", "on")
    assert done.stdout.splitlines() == ["off", "on", DESCRIBED], done.stderr


def test_a_hub_that_switches_its_neighbours_too_is_named_and_left_on(tmp_path: Path) -> None:
    replay = others(Replay().asked(DESCRIPTOR, PER_PORT)).asked(power(3, on=False)).asked(status(3), OFF)
    others(replay, OFF).asked(power(3, on=True))
    done = run(replay, tmp_path, "off")
    refused, described = done.stdout.splitlines()
    assert "switching 1-1.3 off took 1-1.1, 1-1.2, 1-1.4 of the same hub with it" in refused
    assert described == DESCRIBED, done.stderr
