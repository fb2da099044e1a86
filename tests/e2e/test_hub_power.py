"""A board's power by its port of a USB hub, with a daemon that sees a sysfs of umockdev's."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import LIMIT, Lab
from tests.interop import exporters
from tests.support.usb_hubs import Bus, Hub

CONFIG = """
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata:
  namespace: default
  name: lab
export:
  board:
    type: power.HubPort
    config:
      port: 1-1.3
  disk:
    type: power.HubPort
    config:
      port: 2-1.2
"""


@pytest.fixture
def hub(tmp_path: Path) -> tuple[Hub, Hub]:
    """Both halves of one hub, and the host's root disk in its second socket."""
    bus = Bus(tmp_path / "host")
    slow, fast = bus.pair()
    bus.root_disk(fast.plug(2))
    return slow, fast


@pytest.fixture
def lab(hub: tuple[Hub, Hub], tmp_path: Path) -> Iterator[Lab]:
    """A daemon to which the files are /sys and /proc."""
    if shutil.which("umockdev-run") is None:
        pytest.skip("missing: umockdev; apt install umockdev")
    config, socket = tmp_path / "exporter.yaml", tmp_path / "exporter.sock"
    config.write_text(CONFIG)
    command: exporters.Command = ["/usr/bin/env", "LD_PRELOAD=libumockdev-preload.so.0"]
    command += [f"UMOCKDEV_DIR={hub[0].bus.root}", exporters.scripts() / "jumpstarter-exporter"]
    with exporters.running([*command, "run", "--config", config, "--socket", socket], tmp_path) as daemon:
        daemon.first_line()
        yield Lab(daemon, socket, tmp_path)


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def test_a_board_is_switched_by_its_port_and_the_hosts_disk_is_not(lab: Lab, hub: tuple[Hub, Hub]) -> None:
    def disabled() -> list[str]:
        return [half.disabled(port).strip() for half in hub for port in (1, 2, 3, 4)]

    all_on, board_off = ["0"] * 8, ["0", "0", "1", "0"] * 2
    lab.ok("power", "off", "board")
    assert disabled() == board_off
    lab.ok("power", "cycle", "board", "--wait", "0")
    assert disabled() == all_on

    refused = lab.run("power", "off", "disk")
    assert refused.returncode != 0
    assert "needs port 2-1.2: /dev/sda hangs on it, and the host has / on it; use another" in refused.stderr
    assert disabled() == all_on

    with lab.start("jumpstarter", "power", "cycle", "board", "--wait", "3600") as cycle:
        until(lambda: disabled() == board_off)
        cycle.send_signal(signal.SIGINT)
        cycle.communicate(timeout=LIMIT)
    until(lambda: disabled() == all_on)

    lab.ok("power", "off", "board")
    lab.daemon.end()
    assert disabled() == board_off


def test_a_hub_that_is_unplugged_is_missing_and_said_with_those_that_are_there(
    lab: Lab, hub: tuple[Hub, Hub]
) -> None:
    lab.ok("power", "on", "board")
    for half in hub:
        half.unplug()
    gone = lab.run("power", "off", "board")
    assert gone.returncode == 4
    assert (
        "there is no USB hub 1-1; there are usb1 (1d6b:0002 Hub) with ports 1-1, 1-2, 1-3, 1-4" in gone.stderr
    )
    hub[0].bus.hub("1-1")
    lab.ok("power", "off", "board")
