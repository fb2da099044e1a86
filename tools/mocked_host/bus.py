"""An emulated sysfs with udev events, which programs see through umockdev's preloaded library.

`MockedBus` is the host: devices are added, changed, renamed and removed one by one, as udev shows them. Nothing has to
run under umockdev itself: it is files in a folder, and datagrams to the sockets that umockdev makes of the monitors of
the programs that do.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from jumpstarter_exporter.devices.udev_device import DeviceTree, UdevDevice

__all__ = ["INSTALL", "PRELOAD", "MockedBus", "answering_ioctls", "is_possible"]

PRELOAD = "libumockdev-preload.so.0"
INSTALL = "apt install umockdev"


def is_possible() -> bool:
    """Whether umockdev and its library are installed."""
    return shutil.which("umockdev-run") is not None


@contextmanager
def answering_ioctls(bus: MockedBus) -> Iterator[None]:
    """Let nodes of the bus be opened: umockdev answers for them; those that are pseudo terminals work as such."""
    say_where = 'echo "$UMOCKDEV_DIR"; exec cat'
    with subprocess.Popen(
        ["umockdev-run", "--", "sh", "-c", say_where],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        (bus.root / "ioctl").symlink_to(Path(process.stdout.readline().strip()) / "ioctl")
        yield
        process.communicate()


class MockedBus:
    """The plugged-in devices, as files in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._devices: dict[str, UdevDevice] = {}
        self.events = 0
        """How many were sent."""
        for part in ("sys/devices", "sys/bus", "sys/class", "dev"):
            (root / part).mkdir(parents=True, exist_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a program that uses this bus."""
        return {"LD_PRELOAD": PRELOAD, "UMOCKDEV_DIR": str(self.root)}

    @property
    def tree(self) -> DeviceTree:
        """All plugged-in devices."""
        return DeviceTree(self._devices.values())

    def plug(self, devices: Iterable[UdevDevice], *, bind: bool = True) -> None:
        """Add devices as one plug: parents before children, and then bind them."""
        added = list(DeviceTree(devices))
        for device in added:
            self.add(device)
        for device in reversed(added):
            if bind and device.subsystem == "usb":
                self.send("bind", device)

    def unplug(self, path: str) -> None:
        """Remove a device with everything below it, children first."""
        below = [one for one in self.tree if one.path == path or one.path.startswith(f"{path}/")]
        for device in reversed(below):
            self.remove(device.path)

    def node(self, device: UdevDevice, target: str) -> None:
        """The node of a device, and the links to it, lead to that file of this host."""
        names = [device.node, *device.links]
        for name in names:
            path = self.root / name.lstrip("/")
            path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)

    def _remove_node(self, device: UdevDevice) -> None:
        for name in (device.node, *device.links):
            if name:
                (self.root / name.lstrip("/")).unlink(missing_ok=True)

    def add(self, device: UdevDevice, *, heard: bool = True) -> None:
        """One device. Without `heard` its event is lost."""
        self._write(device)
        if heard:
            self.send("add", device)

    def change(self, device: UdevDevice, *, heard: bool = True) -> None:
        """Change the properties of a device."""
        self._write(device)
        if heard:
            self.send("change", device)

    def remove(self, path: str, *, heard: bool = True) -> None:
        """Remove one device without children."""
        device = self._devices.pop(path)
        self._remove_node(device)
        self._link(device).unlink()
        shutil.rmtree(self._folder(path))
        if heard:
            self.send("remove", device)

    def send(self, action: str, device: UdevDevice, more: Mapping[str, str] | None = None) -> None:
        """Send an event to every listening program. Waits for slow ones."""
        self.events += 1
        properties = {
            "ACTION": action,
            "DEVPATH": device.path,
            **device.properties,
            "SEQNUM": str(self.events),
            **(more or {}),
        }
        body = b"".join(os.fsencode(f"{key}={value}") + b"\0" for key, value in properties.items())
        # struct udev_monitor_netlink_header of libudev.
        head = struct.pack(">8sI", b"libudev", 0xFEEDCAFE) + struct.pack("=7I", 40, 40, len(body), 0, 0, 0, 0)
        for listener in self.root.glob("event*"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(10)
                try:
                    sender.connect(str(listener))
                    sender.send(head + body)
                except ConnectionRefusedError:
                    listener.unlink()  # its program has ended

    def _folder(self, path: str) -> Path:
        return self.root / "sys" / path.lstrip("/")

    def _link(self, device: UdevDevice) -> Path:
        if device.subsystem in ("usb", "gpio"):
            return self.root / "sys/bus" / device.subsystem / "devices" / device.name
        return self.root / "sys/class" / device.subsystem / device.name

    def _write(self, device: UdevDevice) -> None:
        folder = self._folder(device.path)
        folder.mkdir(parents=True, exist_ok=True)
        properties = {key: value for key, value in device.properties.items() if key != "SUBSYSTEM"}
        text = "".join(f"{key}={value}\n" for key, value in properties.items())
        (folder / "uevent").write_bytes(os.fsencode(text))
        for name, value in device.attributes.items():
            (folder / name).write_text(f"{value}\n")
        link = self._link(device)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(folder, link.parent))
        kind = self.root / "sys" / ("bus" if link.parent.name == "devices" else "class") / device.subsystem
        if not (folder / "subsystem").is_symlink():
            (folder / "subsystem").symlink_to(os.path.relpath(kind, folder))
        self._devices[device.path] = device
