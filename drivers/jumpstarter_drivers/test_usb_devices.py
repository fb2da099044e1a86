"""USB devices by transfers that libusb sends, and that umockdev replays.

umockdev knows neither transfers that fail nor reports: those are answered by the scripted backend of the drivers'
tests.
"""

from __future__ import annotations

import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

import pytest

from tests.support.umockdev import require_umockdev
from tests.support.usb_pcap import HUB, Replay, board_tree

USE = """
from jumpstarter_drivers.relay_power.driver import HidRelay
from jumpstarter_drivers.sd_mux.mux_table import MUXES
from jumpstarter_drivers.storage.state import Position
from jumpstarter_drivers.usb_devices import UsbSearch, find_usb_device

relay = HidRelay(board="dcttech", channel=2, serial="BITFT")
relay.switch_relays(True)
print(relay.describe_hardware(), relay.read_relays())
kind = MUXES["sdwire"]
mux = find_usb_device(UsbSearch(kind.label, kind.ids, kind.product))
for position in (Position.HOST, Position.DUT):
    kind.switch(mux, position)
    print(mux, kind.position(mux))
"""
ON, OFF = "42 49 54 46 54 00 00 02", "42 49 54 46 54 00 00 00"


def test_transfers_are_the_makers(tmp_path: Path) -> None:
    require_umockdev()
    if find_library("usb-1.0") is None:
        pytest.skip("missing: libusb; apt install libusb-1.0-0")
    root, _, _ = HUB.rpartition("/")
    boards = {"1-1": (0x16C0, 0x05DF, "USBRelay2"), "1-2": (0x04E8, 0x6001, "sd-wire")}
    (tmp_path / "boards.umockdev").write_text(board_tree(boards))
    state, switch = "a0 01 0003 0000 0800", "20 09 0003 0000 0800"
    relay = Replay().asked(state, OFF).told(switch, "ff 02 00 00 00 00 00 00").asked(state, ON)
    relay.asked(state, ON).asked(state, ON).write(tmp_path / "1-1.pcap")
    mux = Replay(3).asked("40 0b f120 0000 0000").asked("c0 0c 0000 0000 0100", "21")
    mux.asked("40 0b f020 0000 0000").asked("c0 0c 0000 0000 0100", "20").write(tmp_path / "1-2.pcap")
    files = [f"--device={tmp_path / 'boards.umockdev'}"]
    files += [f"--pcap=/sys{root}/{name}={tmp_path / name}.pcap" for name in boards]
    done = subprocess.run(
        ["umockdev-run", *files, "--", sys.executable, "-c", USE],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == [
        "relay 2 of the USBRelay at 1-1 (serial number BITFT), which has 2 [True]",
        "1-2 host",
        "1-2 dut",
    ], done.stderr
