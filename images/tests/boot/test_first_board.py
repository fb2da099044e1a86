"""A person's story with a card: power, and a board in the lab, with nothing typed on the host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio
from machine import Image, Machine, Setup, start
from outside import Lab, lab, serve_time

from conftest import with_file

pytestmark = pytest.mark.timeout(3000)


async def echo(socket: Path) -> None:
    """A board at the other end of a serial adapter: it answers what it is told, in capitals."""
    async with await trio.open_unix_socket(socket) as stream:
        async for data in stream:
            await stream.send_all(data.upper())


async def until(lab: Lab, machine: Machine, what: str, holds: object, seconds: float = 900) -> None:
    """Until what the controller lists of its exporters is so."""
    with trio.move_on_after(seconds):
        while True:
            listed = await lab.exporters()
            if holds(listed):  # type: ignore[operator]
                return
            await trio.sleep(0.5)
    status = await machine.sh(
        "cat /boot/firmware/jumpstarter-status.txt; journalctl -b --no-pager -u 'jumpstarter*' | tail -60",
        check=False,
    )
    raise AssertionError(f"{what}: not after {seconds:.0f} s\n{listed}\n{status}\n{machine.console()}")


async def test_power_to_the_first_lease(twin: Image, folder: Path, nursery: trio.Nursery) -> None:
    nursery.start_soon(serve_time)
    async with lab(folder) as outside:
        made = await outside.offer("pi4", "--valid", "1h")
        text = (
            f"hostname: pi4\ntimeServer: 10.0.2.2\nendpoint: {made['endpoint']}\n"
            f"fingerprint: {made['fingerprint']}\npairingCode: {made['code']}\n"
        )
        card = with_file(twin, folder, text)
        async with start(Setup(), card, folder) as machine:
            shell = await machine.wait_for_shell()
            await until(outside, machine, "registered", lambda listed: len(listed) == 1)
            registered = machine.seconds
            running = await machine.wait_until_running()
            print(f"shell {shell:.0f} s, registered {registered:.0f} s, running {running:.0f} s")

            # An adapter is plugged in: its console is in the lab.
            socket = await machine.plug_serial("ftdi", "1", "LAB-0001")
            nursery.start_soon(echo, socket)
            await until(outside, machine, "available", lambda listed: listed[0]["status"] == "AVAILABLE")
            said = await outside.run(
                *("jumpstarter", "shell", "-l", "host=pi4", "--", "sh", "-c"),
                "j --help; j serial --help; jumpstarter exporters show pi4 -o json",
                check=False,
            )
            print(said)
            shown = json.loads(await outside.run("jumpstarter", "exporters", "show", "pi4", "-o", "json"))
            print(json.dumps(shown, indent=1)[:6000])

            # The code is gone from the card, and the status says who it is.
            left = await machine.sh("cat /boot/firmware/jumpstarter.yaml")
            assert made["code"] not in left
            status = await machine.until(
                "grep -q 'this host is pi4' /boot/firmware/jumpstarter-status.txt", seconds=400
            )
            assert made["code"] not in status

            # It is pulled out.
            await machine.unplug("ftdi")
            await until(outside, machine, "unavailable", lambda listed: listed[0]["status"] != "AVAILABLE")
