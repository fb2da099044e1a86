"""A host on a mocked bus, into whose hub tests plug serial adapters whose lines they hold the other ends of.

Consoles are ptys. What udev calls a link to their nodes leads there, at a place outside of the mocked /dev, where
umockdev would want to answer their ioctls itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from jumpstarter_exporter.devices.udev_device import UdevDevice

from tools.mocked_host.bus import MockedBus
from tools.mocked_host.udev import HUB, Host

__all__ = ["FTDI", "Bench"]

CONTROLLER = "/devices/platform/soc/3f980000.usb"
HUB_PATH = f"{CONTROLLER}/usb1/1-1"
FTDI = ("0403:6001", "A50285BJ", "FT232R USB UART")
"""Ids, serial number and model, for `Bench.plug`."""


class Bench:
    """A host, and what is plugged into its hub."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.bus = MockedBus(home / "bus")
        host = Host()
        (root,) = host.controller(CONTROLLER, 1, 2)
        host.plug(root, 1, "0424:9514", model="USB2.0 Hub", interfaces=HUB)
        self.bus.plug(host.devices)
        self._numbers = 0
        self._terminals: dict[int, tuple[int, int]] = {}
        (home / "bus/proc/self").mkdir(parents=True)
        (home / "bus/proc/self/mountinfo").write_text("")

    def plug(self, port: int, ids: str, serial: str, model: str) -> int:
        """A serial adapter: the other end of its line."""
        host = Host(_numbers={"ttyUSB": self._numbers - 1, "usb": self._numbers + 2})
        self._numbers += 1
        host.tty(host.plug(HUB_PATH, port, ids, serial, model))
        devices = [
            replace(one, properties={**one.properties, "DEVLINKS": self._elsewhere(one)})
            for one in host.devices
        ]
        board = self.terminal(port, _links(devices))
        self.bus.plug(devices)
        return board

    def _elsewhere(self, device: UdevDevice) -> str:
        return device.properties.get("DEVLINKS", "").replace("/dev/", f"{self.home}/dev/")

    def terminal(self, port: int, names: Iterable[Path]) -> int:
        """A terminal with these names: its other end."""
        board, terminal = os.openpty()
        self._terminals[port] = board, terminal
        for name in names:
            name.parent.mkdir(parents=True, exist_ok=True)
            name.symlink_to(os.ttyname(terminal))
        return board

    def unplug(self, port: int) -> None:
        """What is at that port; its line is closed."""
        path = f"{HUB_PATH}/1-1.{port}"
        for name in _links(one for one in self.bus.tree if one.path.startswith(f"{path}/")):
            name.unlink()
        self.close(port)
        self.bus.unplug(path)

    def close(self, port: int) -> None:
        """The line of what is at that port."""
        for end in self._terminals.pop(port):
            os.close(end)

    def close_all(self) -> None:
        """All lines; nothing is unplugged."""
        for port in list(self._terminals):
            self.close(port)

    @property
    def environment(self) -> dict[str, str]:
        """Of an exporter that looks for devices there."""
        return {**self.bus.environment, "JUMPSTARTER_DISCOVERY": "true"}


def _links(devices: Iterable[UdevDevice]) -> list[Path]:
    return [Path(name) for one in devices for name in one.links]
