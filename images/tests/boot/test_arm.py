"""The image for Raspberry Pis itself: on a computer that the emulator makes up, and on an emulated Raspberry Pi 3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from arm64_report import Boot
from console_text import last_lines
from machine import Image, Machine, Model, Setup, start
from outside import Lab, echo, lab, serve_time, site_file, until_listed

from conftest import built, with_file

pytestmark = pytest.mark.timeout(6000)

HOST = "pi3"
PATIENCE = 2400.0
"""Seconds for each step: an emulated processor of another kind is slow."""
RELAY = b"""\
export:
  power: {type: power.GpioRelay, config: {pin: 17}}
"""
PINS = 0x3F200034
"""Where a Pi 3 has the levels of its pins 0 to 31."""


@pytest.fixture
def arm() -> Image:
    """The image of `make image`."""
    return built("arm64")


async def enrol(outside: Lab, machine: Machine, model: Model) -> str:
    """Until the host is up and in the lab, by the file on its card. Returns what that took."""
    await machine.wait_for_shell(PATIENCE)
    shell = machine.seconds
    await outside.heard("exporter connected", PATIENCE)
    registered = machine.seconds
    running = await machine.wait_until_running(PATIENCE)
    assert (await machine.sh("uname -m")).strip() == "aarch64"
    assert (await machine.sh("cat /run/jumpstarter-image/data")).strip() == "kept"
    return f"on {model}: shell {shell:.0f} s, registered {registered:.0f} s, running {running:.0f} s"


async def boot_log(machine: Machine) -> str:
    """The last lines of systemd and our programs; the console of a Pi is the shell's, too."""
    words = "journalctl -b --no-pager -o short-monotonic -t systemd -t jumpstarter-image -u 'jumpstarter-*'"
    return last_lines((await machine.sh(words)).encode(), 40)


async def is_on(machine: Machine, pin: int) -> bool:
    """The level of a pin of a Pi 3, read outside of it."""
    said = await machine.monitor(f"xp /1wx {PINS:#x}")
    return bool(int(said.split()[-1], 16) >> pin & 1)


async def test_power_to_a_lease_on_virt(
    arm: Image,
    folder: Path,
    nursery: trio.Nursery,
    report: Callable[[str], None],
    arm64_boots: list[Boot],
) -> None:
    nursery.start_soon(serve_time)
    async with lab(folder) as outside:
        image = with_file(arm, folder, site_file(HOST, await outside.offer(HOST, "--valid", "3h")))
        async with start(Setup("virt"), image, folder) as machine:
            report(f"the image for arm64 {(measured := await enrol(outside, machine, 'virt'))}")
            socket = await machine.plug_serial("ftdi", "1", "LAB-0001")
            nursery.start_soon(echo, socket)
            await until_listed(
                outside, machine, "free", lambda listed: listed[0]["state"] == "free", PATIENCE
            )
            serial = "j ft232r-lab-0001 serial"
            heard = f"until {serial} log | grep HELLO; do sleep 0.2; done"
            script = f"echo hello | {serial} pipe --no-output && timeout 300 sh -c '{heard}'"
            words = ("jumpstarter", "shell", "-l", f"host={HOST}", "--", "sh", "-c", script)
            assert "HELLO" in await outside.run(*words, seconds=PATIENCE)
            reached = "leased from outside, and an adapter that was plugged in has answered"
            arm64_boots.append(Boot("virt", measured, reached, await boot_log(machine)))


async def test_power_to_a_relay_on_a_raspberry_pi(
    arm: Image,
    folder: Path,
    nursery: trio.Nursery,
    report: Callable[[str], None],
    arm64_boots: list[Boot],
) -> None:
    nursery.start_soon(serve_time)
    # QEMU's watchdog does not count: it starts the host anew as soon as it is set.
    words = "modprobe.blacklist=vchiq,bcm2835_v4l2,snd_bcm2835,bcm2835_wdt systemd.watchdog_sec=0"
    setup = replace(Setup("raspi3b"), append=words)
    async with lab(folder) as outside:
        image = with_file(arm, folder, site_file(HOST, await outside.offer(HOST, "--valid", "3h")))
        async with start(setup, image, folder) as machine:
            report(f"the image for arm64 {(measured := await enrol(outside, machine, 'raspi3b'))}")
            assert "Raspberry Pi 3" in await machine.sh("cat /proc/device-tree/model")
            await machine.put("/etc/jumpstarter/exporters/relay.yaml", RELAY)
            await machine.sh("systemctl reload jumpstarter-exporter", seconds=PATIENCE)
            await until_listed(
                outside,
                machine,
                "the relay",
                lambda listed: any(one["state"] == "free" for one in listed),
                PATIENCE,
            )
            for verb, level in (("on", True), ("off", False), ("on", True)):
                words = ("jumpstarter", "power", verb, "-l", f"host={HOST}")
                await outside.run(*words, seconds=PATIENCE)
                assert await is_on(machine, 17) is level
            reached = "leased from outside, and GPIO17 was read outside of it: on, off, on"
            arm64_boots.append(Boot("raspi3b", measured, reached, await boot_log(machine)))
