"""A host on a mocked bus. Tests plug serial adapters into its hub, and have the other ends of their lines.

Consoles are ptys. What udev calls a link to their nodes leads there, at a place outside of the mocked /dev, where
umockdev would want to answer their ioctls itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from jumpstarter_exporter.devices.udev_device import UdevDevice

from tools.mocked_host.bus import MockedBus
from tools.mocked_host.udev import DISK, HUB, Host

__all__ = ["FTDI", "Bench"]

CONTROLLER = "/devices/platform/soc/3f980000.usb"
HUB_PATH = f"{CONTROLLER}/usb1/1-1"
FTDI = ("0403:6001", "A50285BJ", "FT232R USB UART")
"""Ids, serial number and model, for `Bench.plug`."""
DISK_BYTES = 64 * 1024**2


class Bench:
    """A host, and the devices in its hub."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.bus = MockedBus(home / "bus")
        host = Host()
        (root,) = host.controller(CONTROLLER, 1, 2)
        host.plug(root, 1, "0424:9514", model="USB2.0 Hub", interfaces=HUB)
        self.bus.plug(host.devices)
        self._numbers = {"ttyUSB": -1, "usb": 2}
        self._terminals: dict[str, tuple[int, int]] = {}
        (home / "bus/proc/self").mkdir(parents=True)
        (home / "bus/proc/self/mountinfo").write_text("")

    def plug(self, port: int, ids: str, serial: str, model: str) -> int:
        """Plug in a serial adapter; returns the other end of its line."""
        host = self._host()
        adapter = host.plug(HUB_PATH, port, ids, serial, model)
        host.tty(adapter)
        return self._plug(host)[adapter]

    def plug_device(self, port: int, ids: str, serial: str, model: str, interfaces: str) -> None:
        """Plug in a device without a driver of the kernel's that makes nodes of it."""
        host = self._host()
        host.plug(HUB_PATH, port, ids, serial, model, interfaces)
        self._plug(host)

    def plug_hub(self, port: int, adapters: Mapping[int, tuple[str, str, str]]) -> dict[int, int]:
        """Plug in a hub with serial adapters as one change; returns the other ends of their lines, by port."""
        host = self._host()
        hub = host.plug(HUB_PATH, port, "05e3:0608", model="USB2.0 Hub", interfaces=HUB)
        paths = {number: host.plug(hub, number, *adapter) for number, adapter in adapters.items()}
        for path in paths.values():
            host.tty(path)
        boards = self._plug(host)
        return {number: boards[path] for number, path in paths.items()}

    def plug_disk(self, port: int) -> None:
        """Plug in a hub with a disk in its first port, whose node can be opened and written."""
        self._numbers.pop("sd", None)  # the first free name; there is one disk at a time
        host = self._host()
        hub = host.plug(HUB_PATH, port, "05e3:0608", model="USB2.0 Hub", interfaces=HUB)
        disk = host.plug(hub, 1, "0781:5581", "4C530001", "Ultra", DISK)
        (path,) = host.disk(disk)
        (node,) = (one.node for one in host.devices if one.path == path)
        file = self.bus.root / node.lstrip("/")
        file.touch()
        file.chmod(0o1660)  # a file with that bit is a block device to who sees it through umockdev
        os.truncate(file, DISK_BYTES)
        self._plug(host)

    def _host(self) -> Host:
        """To which one adds what comes next."""
        return Host(_numbers=self._numbers)

    def _plug(self, host: Host) -> dict[str, int]:
        """What was added, as one change; the other ends of lines, by the paths of the adapters."""
        devices = [
            replace(one, properties={**one.properties, "DEVLINKS": self._elsewhere(one)})
            for one in host.devices
        ]
        usb = [one.path for one in devices if one.is_usb_device]
        boards = {}
        for terminal in (one for one in devices if one.subsystem == "tty"):
            adapter = max((path for path in usb if terminal.path.startswith(f"{path}/")), key=len)
            boards[adapter] = self.terminal(adapter, _links([terminal]))
        self.bus.plug(devices)
        return boards

    def _elsewhere(self, device: UdevDevice) -> str:
        return device.properties.get("DEVLINKS", "").replace("/dev/", f"{self.home}/dev/")

    def terminal(self, place: str, names: Iterable[Path]) -> int:
        """A terminal with these names, for what is at that place: its other end."""
        board, terminal = os.openpty()
        self._terminals[place] = board, terminal
        for name in names:
            name.parent.mkdir(parents=True, exist_ok=True)
            if not name.is_symlink():  # udev gives a link that several claim to one of them
                name.symlink_to(os.ttyname(terminal))
        return board

    def unplug(self, port: int) -> None:
        """Unplug the device at that port with everything below it; closes its lines."""
        path = f"{HUB_PATH}/1-1.{port}"
        for name in _links(one for one in self.bus.tree if one.path.startswith(f"{path}/")):
            name.unlink(missing_ok=True)
        self.hang_up(port)
        self.bus.unplug(path)

    def hang_up(self, port: int) -> None:
        """Close the lines of the device at that port, before udev knows."""
        path = f"{HUB_PATH}/1-1.{port}"
        for place in [place for place in self._terminals if place == path or place.startswith(f"{path}/")]:
            self._close(place)

    def _close(self, place: str) -> None:
        for end in self._terminals.pop(place):
            os.close(end)

    def close_all(self) -> None:
        """Close all lines; unplugs nothing."""
        for place in list(self._terminals):
            self._close(place)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of an exporter that uses this bus."""
        return {**self.bus.environment, "JUMPSTARTER_DISCOVERY": "true"}


def _links(devices: Iterable[UdevDevice]) -> list[Path]:
    return [Path(name) for one in devices for name in one.links]
