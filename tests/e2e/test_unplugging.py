"""Configured devices that are unplugged and plugged in while a daemon serves them, on a bus of umockdev's."""

from __future__ import annotations

import json
import os
import pty
import time
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from jumpstarter_exporter.devices.udev_device import UdevDevice

from tests.e2e.conftest import LIMIT, Lab
from tests.interop import exporters
from tests.support.umockdev import require_umockdev
from tools.mocked_host.bus import MockedBus, answering_ioctls
from tools.mocked_host.udev import Host

ROOT = "/devices/platform/soc/3f980000.usb/usb1"
BY_ID = "/dev/serial/by-id/usb-0403_FT232R_USB_UART_A50285BJ-if00-port0"
CONFIG = f"""
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata:
  namespace: default
  name: lab
export:
  console:
    type: serial.PySerial
    config:
      url: {BY_ID}
"""


@dataclass
class Adapter:
    """A serial adapter at a port of the host, and the board at its end."""

    bus: MockedBus
    devices: list[UdevDevice] = field(default_factory=list)
    board: int = -1
    _far: int = -1

    def plug(self, number: int = 0) -> None:
        host = Host(_numbers={"ttyUSB": number - 1, "usb": 5})
        node = host.tty(host.plug(ROOT, 1, "0403:6001", "A50285BJ", "FT232R USB UART"))
        self.devices = host.devices
        self.board, self._far = pty.openpty()
        tty.setraw(self._far)
        (device,) = (one for one in self.devices if one.path == node)
        self.bus.node(device, os.ttyname(self._far))
        self.bus.plug(self.devices)

    def unplug(self) -> None:
        self.close()
        self.bus.unplug(f"{ROOT}/1-1")

    def close(self) -> None:
        if self.board >= 0:
            os.close(self.board)
            os.close(self._far)
            self.board = -1


@pytest.fixture
def adapter(tmp_path: Path) -> Iterator[Adapter]:
    require_umockdev()
    bus = MockedBus(tmp_path / "host")
    host = Host()
    host.controller("/devices/platform/soc/3f980000.usb", 1, 2)
    bus.plug(host.devices)
    adapter = Adapter(bus)
    adapter.plug()
    yield adapter
    adapter.close()


@pytest.fixture
def lab(adapter: Adapter, tmp_path: Path) -> Iterator[Lab]:
    config, socket = tmp_path / "exporter.yaml", tmp_path / "exporter.sock"
    config.write_text(CONFIG)
    command: exporters.Command = ["/usr/bin/env"]
    command += [f"{key}={value}" for key, value in adapter.bus.environment.items()]
    command += [exporters.scripts() / "jumpstarter-exporter"]
    run = [*command, "run", "--config", config, "--socket", socket]
    with answering_ioctls(adapter.bus), exporters.running(run, tmp_path) as daemon:
        daemon.first_line()
        lab = Lab(daemon, socket, tmp_path)
        until(lambda: console(lab)["state"] == "ready")  # what the board says before is not read
        yield lab


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def console(lab: Lab) -> dict[str, str]:
    (found,) = json.loads(lab.ok("devices", "-o", "json"))
    return dict(found)


def test_a_console_is_missing_while_its_adapter_is_unplugged_and_goes_on_when_it_is_back(
    lab: Lab, adapter: Adapter
) -> None:
    with lab.start("jumpstarter", "serial", "log", "--follow") as log:
        assert log.stdout is not None
        os.write(adapter.board, b"before\n")
        assert log.stdout.readline() == "before\n"
        adapter.unplug()
        until(lambda: f"{BY_ID} was unplugged at" in console(lab)["reason"])
        assert console(lab)["state"] == "missing"
        adapter.plug(number=1)
        until(lambda: console(lab)["state"] == "ready")
        os.write(adapter.board, b"after\n")
        assert log.stdout.readline() == "after\n"
        log.terminate()
        log.communicate(timeout=LIMIT)
    said = lab.daemon.log.read_text()
    assert said.count("console is missing") == 2  # by the port, and by udev, which says when
    assert "is back after" in said
    recorded = b"".join(one.read_bytes() for one in lab.home.rglob("consoles/*/*") if one.is_file())
    order = [recorded.index(part) for part in (b"before", b"the port went away", b"after")]
    assert order == sorted(order)  # the recording marks the gap
