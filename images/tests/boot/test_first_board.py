"""A person's story with a card: power, and a board in the lab, with nothing typed on the host."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from enrolled import HOST, SETUP, Story, from_power
from machine import Image
from outside import Lab, echo, until_listed

pytestmark = pytest.mark.timeout(3000)
MOST_MEGABYTES = 45
"""Of memory of an exporter that does nothing but record one console: a Zero 2 W has 512 for all."""


async def say(outside: Lab, word: str) -> str:
    """Lease the board, and talk to what is behind its adapter."""
    serial = "j ft232r-lab-0001 serial"
    heard = f"until {serial} log | grep {word.upper()}; do sleep 0.2; done"
    script = f"echo {word} | {serial} pipe --no-output && timeout 120 sh -c '{heard}'"
    return await outside.run("jumpstarter", "shell", "-l", f"host={HOST}", "--", "sh", "-c", script)


async def test_power_to_the_first_lease(
    twin: Image, story: Story, nursery: trio.Nursery, report: Callable[[str], None]
) -> None:
    async with from_power(twin, story) as (outside, machine):
        assert await machine.sh("systemctl --failed --no-legend --plain") == ""

        # What lasts has the rest of the card: all but what is before it, and what ext4 needs for itself.
        begin = int(await machine.sh("cat /sys/class/block/vda3/start")) * 512
        size = int(await machine.sh("cat /sys/class/block/vda3/size")) * 512
        assert begin + size == SETUP.card
        blocks, block = map(int, (await machine.sh("stat -fc '%b %S' /data")).split())
        assert blocks * block > 0.9 * size

        # An adapter is plugged in: its console is in the lab, and who leases it from outside is answered.
        socket = await machine.plug_serial("ftdi", "1", "LAB-0001")
        nursery.start_soon(echo, socket)
        await until_listed(outside, machine, "available", lambda listed: listed[0]["status"] == "AVAILABLE")
        assert "HELLO" in await say(outside, "hello")

        # The code is gone from the card, and the status says who it is.
        assert story.code not in await machine.sh("cat /boot/firmware/jumpstarter.yaml")
        status = await machine.until(
            f"grep -q 'this host is {HOST}' /boot/firmware/jumpstarter-status.txt && "
            "cat /boot/firmware/jumpstarter-status.txt",
            seconds=400,
        )
        assert story.code not in status

        # One console is recorded, and the lease is over.
        resident = "grep VmRSS /proc/$(systemctl show -P MainPID jumpstarter-exporter)/status | tr -dc 0-9"
        megabytes = int(await machine.sh(resident)) * 1024 / 1e6
        report(f"the exporter's resident memory, with a console that is recorded: {megabytes:.1f} MB")
        assert megabytes <= MOST_MEGABYTES

        # It is pulled out.
        await machine.unplug("ftdi")
        await until_listed(outside, machine, "unavailable", lambda listed: listed[0]["status"] != "AVAILABLE")
