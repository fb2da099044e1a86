"""From a plug to a console, without a file written by hand: a whole exporter on a bus of umockdev's, and its users.

Consoles are ptys. What udev calls a link to their nodes leads there, at a place outside of the mocked /dev, where
umockdev would want to answer their ioctls itself.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from jumpstarter_exporter.devices.udev_device import UdevDevice

from tests.e2e.conftest import LIMIT, Lab
from tests.e2e.lab import Reader
from tests.interop import exporters
from tests.support.mocked_bus import MockedBus, require_umockdev
from tests.support.udev_hosts import HUB, Host

CONTROLLER = "/devices/platform/soc/3f980000.usb"
HUB_PATH = f"{CONTROLLER}/usb1/1-1"
FTDI = ("0403:6001", "A50285BJ", "FT232R USB UART")


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
        path = f"{HUB_PATH}/1-1.{port}"
        for name in _links(one for one in self.bus.tree if one.path.startswith(f"{path}/")):
            name.unlink()
        self.close(port)
        self.bus.unplug(path)

    def close(self, port: int) -> None:
        for end in self._terminals.pop(port):
            os.close(end)

    @contextmanager
    def running(self) -> Iterator[Lab]:
        """The exporter, started as a newcomer does."""
        environment = {**self.bus.environment, "JUMPSTARTER_DISCOVERY": "true"}
        command: exporters.Command = [
            "/usr/bin/env",
            *(f"{key}={value}" for key, value in environment.items()),
        ]
        command += [exporters.scripts() / "jumpstarter-exporter", "run"]
        with exporters.running(command, self.home) as daemon:
            daemon.first_line()
            yield Lab(daemon, self.home / "run" / "exporter.sock", self.home)


def _links(devices: Iterable[UdevDevice]) -> list[Path]:
    return [Path(name) for one in devices for name in one.links]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    require_umockdev()
    bench = Bench(tmp_path)
    yield bench
    for port in list(bench._terminals):
        bench.close(port)


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def said(board: int, text: bytes, reader: Reader) -> Callable[[], bool]:
    """The board says it, again and again, as nobody knows when the console is open; and whether it was read."""

    def holds() -> bool:
        os.write(board, text)
        return text.decode().strip() in reader.text["out"]

    return holds


@contextmanager
def console(lab: Lab) -> Iterator[Reader]:
    """What somebody reads who has the console open."""
    with lab.start("jumpstarter", "serial", "pipe", "--input") as process:
        reader = Reader(process)
        try:
            yield reader
        finally:
            process.terminate()
            reader.end()


def boards(lab: Lab) -> dict[str, dict[str, dict[str, str]]]:
    """Devices by board and path."""
    listed = json.loads(exporter(lab, "boards", "-o", "json"))
    return {board["name"]: {one["path"]: one for one in board["devices"]} for board in listed["boards"]}


def exporter(lab: Lab, *words: str) -> str:
    process = lab.start("jumpstarter-exporter", *words)
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, err
    return str(out)


def test_an_adapter_that_is_plugged_in_is_a_console_without_a_line_of_configuration(bench: Bench) -> None:
    with bench.running() as lab:
        assert "has no devices" in lab.ok("devices")
        board = bench.plug(2, *FTDI)
        until(lambda: "ft232r-a50285bj.serial" in lab.ok("devices", "-o", "name"))
        with console(lab) as reader:
            until(said(board, b"login:\n", reader))

        bench.unplug(2)
        until(lambda: "unplugged at" in lab.ok("devices"))
        (before,) = (one for devices in boards(lab).values() for one in devices.values())
        assert before["state"] == "missing"
        bench.plug(4, *FTDI)
        until(lambda: "missing" not in lab.ok("devices"))
        (devices,) = boards(lab).values()
        (after,) = devices.values()
        assert (after["path"], after["uuid"]) == (before["path"], before["uuid"])
        assert after["identity"] == "serial number A50285BJ"
        listed = exporter(lab, "boards")
        assert (
            "  discovered\n  of no controller: it has no token; jumpstarter-exporter enrol HOST:PORT\n"
            in listed
        )
        assert "    known by its serial number A50285BJ: no other device of this host has" in listed


def test_a_session_on_a_configured_board_never_notices_what_is_plugged_beside_it(bench: Bench) -> None:
    folder = bench.home / ".config" / "jumpstarter" / "exporters"
    folder.mkdir(parents=True)
    folder.joinpath("rpi4.yaml").write_text(
        "export: {power: {type: power.MockPower}, "
        f"console: {{type: serial.PySerial, config: {{url: {bench.home}/console}}}}}}"
    )
    board = bench.terminal(1, [bench.home / "console"])
    with bench.running() as lab, console(lab) as reader:
        until(said(board, b"one\n", reader))
        assert set(boards(lab)) == {"rpi4"}
        bench.plug(2, *FTDI)
        until(lambda: len(boards(lab)) == 2)
        (discovered,) = boards(lab).keys() - {"rpi4"}
        assert set(boards(lab)[discovered]) == {"ft232r-a50285bj.serial"}
        lab.ok("power", "on")
        bench.unplug(2)
        until(lambda: boards(lab)[discovered]["ft232r-a50285bj.serial"]["state"] == "missing")
        until(said(board, b"two\n", reader))
        assert exporter(lab, "forget", "ft232r-a50285bj.serial") == "ft232r-a50285bj.serial is forgotten\n"
        until(lambda: set(boards(lab)) == {"rpi4"})
