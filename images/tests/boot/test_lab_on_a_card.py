"""A lab on one card, in a network that has no way out, no time server and no other controller."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import trio
from machine import OUTSIDE, Image, Machine, Setup, start
from outside import Lab, ask_time, echo, until_listed

from conftest import with_file

pytestmark = pytest.mark.timeout(3000)

HOST = "bench"
SETUP = Setup(
    # No clock that runs without power; Linux would begin in 1970.
    extra=("-rtc", "base=1970-01-01T00:00:00"),
    forward=("tcp:8082", "tcp:8083", "udp:123"),
)
SITE = f"hostname: {HOST}\ncontroller: true\nendpoint: {OUTSIDE}:8082\n"
DATA = "/var/lib/jumpstarter-controller"
STATUS = "/boot/firmware/jumpstarter-status.txt"
LATER = 2 * 3600


async def ann(machine: Machine, folder: Path) -> Lab:
    """Who is let in by the lab's admin, on the card, and comes from outside."""
    await machine.sh(
        "setpriv --reuid jumpstarter-controller --regid jumpstarter-controller --init-groups -- "
        f"jumpstarter-controller admin client create ann --data {DATA} --save {DATA}/ann.yaml",
        seconds=300,
    )
    file = folder / "ann.yaml"
    file.touch(mode=0o600)
    file.write_text(await machine.sh(f"cat {DATA}/ann.yaml"))
    return Lab(folder, 8082)


async def clock(machine: Machine) -> float:
    """What the host takes for the time."""
    return float(await machine.sh("date +%s.%N"))


async def test_a_lab_on_one_card_has_its_own_time_and_keeps_it(
    twin: Image, folder: Path, nursery: trio.Nursery
) -> None:
    image = with_file(twin, folder, SITE)
    async with start(SETUP, image, folder) as machine:
        await machine.wait_for_shell()
        # Nobody waits for the time to be up, and the first start of a card is not before the image was made.
        await machine.wait_until_running()
        made = float(await machine.sh("stat -c %Y /usr/lib/clock-epoch"))
        assert made <= await clock(machine) < made + 24 * 3600
        await machine.until(f"grep -q 'this host is {HOST} of' {STATUS}", seconds=900)
        assert "this host uses its own clock" in " ".join((await machine.sh(f"cat {STATUS}")).split())

        # Its network gets the time from it, as of a clock of a low rank.
        stratum, told = await ask_time(300)
        assert stratum >= 10
        assert abs(told - await clock(machine)) < 5

        outside = await ann(machine, folder)
        socket = await machine.plug_serial("ftdi", "1", "LAB-0001")
        nursery.start_soon(echo, socket)
        [board] = await until_listed(outside, machine, "free", lambda listed: listed[0]["state"] == "free")
        assert board["name"].startswith(HOST)
        serial = "j ft232r-lab-0001 serial"
        heard = f"until {serial} log | grep HELLO; do sleep 0.2; done"
        script = f"echo hello | {serial} pipe --no-output && timeout 120 sh -c '{heard}'"
        assert "HELLO" in await outside.run(
            "jumpstarter", "shell", "-l", f"host={HOST}", "--", "sh", "-c", script
        )

        # Somebody who knows the time says it, and the network hears that.
        now = time.time() + LATER
        await machine.sh(f"date -s @{now:.0f}")
        _, told = await ask_time()
        assert abs(told - now) < 120
        await machine.unplug("ftdi")
        machine.may_end = True
        await machine.sh("systemctl --no-block reboot", check=False)
        await machine.wait_for_end()

    async with start(SETUP, image, folder, folder / "card.qcow2") as again:
        await again.wait_for_shell()
        # The shell is there before anything else.
        await again.until("systemctl is-active --quiet jumpstarter-image-clock.service", seconds=300)
        assert now <= await clock(again) < now + 3600
        kept = json.loads(await again.sh("cat /var/lib/jumpstarter-image/state.json"))
        assert kept["controller"] is True
        await again.until("systemctl is-active --quiet jumpstarter-controller.service", seconds=600)
        await again.plug_serial("ftdi", "1", "LAB-0001")
        [after] = await until_listed(
            outside, again, "free again", lambda listed: listed[0]["state"] == "free"
        )
        assert after["name"] == board["name"]
        # The time is noted while it runs, too, for a power cut.
        since = "$(systemctl show -p ActiveEnterTimestamp --value jumpstarter-image-clock)"
        noted = "stat -c %Y /var/lib/jumpstarter-image/clock"
        await again.until(f'test $({noted}) -gt $(date -d "{since}" +%s)', seconds=300)
        assert await again.sh("systemctl --failed --no-legend --plain") == ""
