"""From a plug to a console, without a file written by hand: a whole exporter on a bus of umockdev's, and its users."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.e2e.conftest import LIMIT, Lab
from tests.e2e.lab import Reader
from tests.interop import exporters
from tools.mocked_host.bench import FTDI, Bench
from tools.mocked_host.udev import HID, UART


@contextmanager
def running(bench: Bench, *before: str) -> Iterator[Lab]:
    """The exporter, started as a newcomer does, by that program or with these variables."""
    command: exporters.Command = [
        "/usr/bin/env",
        *(f"{key}={value}" for key, value in bench.environment.items()),
        *before,
    ]
    command += [exporters.scripts() / "jumpstarter-exporter", "run"]
    with exporters.running(command, bench.home) as daemon:
        daemon.first_line()
        yield Lab(daemon, bench.home / "run" / "exporter.sock", bench.home)


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
def console(lab: Lab, *device: str) -> Iterator[Reader]:
    """What somebody reads who has the console open."""
    with lab.start("jumpstarter", "serial", "pipe", "--input", *device) as process:
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
    with running(bench) as lab:
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
        token = "it has no token; jumpstarter-exporter enrol HOST:PORT --board "
        assert f"  discovered\n  of no controller: {token}" in listed
        assert "    known by its serial number A50285BJ: no other device of this host has" in listed


def test_a_session_on_a_configured_board_never_notices_what_is_plugged_beside_it(bench: Bench) -> None:
    folder = bench.home / ".config" / "jumpstarter" / "exporters"
    folder.mkdir(parents=True)
    folder.joinpath("rpi4.yaml").write_text(
        "export: {power: {type: power.MockPower}, "
        f"console: {{type: serial.PySerial, config: {{url: {bench.home}/console}}}}}}"
    )
    board = bench.terminal("console", [bench.home / "console"])
    with running(bench) as lab, console(lab) as reader:
        until(said(board, b"one\n", reader))
        assert set(boards(lab)) == {"rpi4"}
        # One monitor of udev's for all: configured devices and discovered ones.
        assert len(list(bench.bus.root.glob("event*"))) == 1
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


def test_a_relay_board_and_a_mux_are_devices_at_their_port(bench: Bench) -> None:
    with running(bench) as lab:
        bench.plug_device(2, "16c0:05df", "", "USBRelay2", HID)
        bench.plug_device(3, "04e8:6001", "sdw-7", "sd-wire", UART)
        wanted = {"usbrelay-1-1-2.relays.relay1", "usbrelay-1-1-2.relays.relay2", "sdwire-sdw-7.storage"}
        until(lambda: wanted <= set(lab.ok("devices", "-o", "name").split()))
        bench.unplug(2)
        until(lambda: "unplugged at" in lab.ok("devices"))
        refused = lab.run("power", "on", "relay2")
        assert refused.returncode == 4
        assert (
            "there is no USBRelay in the port 1-1.2: no USBRelay is plugged in; check its cable"
            in refused.stderr
        )
