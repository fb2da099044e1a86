"""What is plugged into a host that is enrolled, by who is in front of it, and used from outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from enrolled import HOST, Story, from_snapshot
from machine import Machine
from outside import until_listed

pytestmark = pytest.mark.timeout(3000)

SIMULATED_CHIP = """
modprobe gpio-sim
bench=/sys/kernel/config/gpio-sim/bench
mkdir -p $bench/bank0/line3
echo 8 >$bench/bank0/num_lines
echo lab-sim >$bench/bank0/label
echo RELAY >$bench/bank0/line3/name
echo 1 >$bench/live
chip=$(cat $bench/bank0/chip_name)
udevadm settle
echo /dev/$chip /sys/devices/platform/$(cat $bench/dev_name)/$chip/sim_gpio3/value
"""
RELAY = """\
export:
  power: {{type: power.GpioRelay, config: {{chip: {chip}, pin: {pin}}}}}
"""
STICK = """\
apiVersion: jumpstarter.dev/v1alpha1
kind: DeviceProfiles
enable: [usb-storage]
"""
STICK_RULE = 'SUBSYSTEM=="block", ENV{ID_SERIAL_SHORT}=="STICK-42", GROUP="jumpstarter"\n'
MEGABYTE = 1024 * 1024


async def devices(machine: Machine) -> dict[str, str]:
    """The UUIDs of all devices of the host, by their paths."""
    said = json.loads(await machine.sh("jumpstarter-exporter boards -o json"))
    return {device["path"]: device["uuid"] for board in said["boards"] for device in board["devices"]}


def is_available(listed: list[dict[str, Any]]) -> bool:
    return any(one["status"] == "AVAILABLE" for one in listed)


async def reload(machine: Machine) -> None:
    await machine.sh("systemctl reload jumpstarter-exporter")


async def test_a_relay_on_a_gpio_chip_is_switched_from_outside(story_told: Story, folder: Path) -> None:
    async with from_snapshot(story_told, folder) as (outside, machine):
        chip, value = (await machine.sh(SIMULATED_CHIP)).split()
        assert (await machine.sh(f"stat -c '%G %a' {chip}")).split() == ["jumpstarter", "660"]
        await machine.put(
            "/etc/jumpstarter/exporters/relay.yaml", RELAY.format(chip=chip, pin="RELAY").encode()
        )
        await reload(machine)
        await until_listed(outside, machine, "the relay", is_available)
        for verb, level in (("on", "1"), ("off", "0"), ("on", "1")):
            await outside.run("jumpstarter", "power", verb, "-l", f"host={HOST}")
            assert (await machine.sh(f"cat {value}")).strip() == level


async def test_a_stick_that_the_admin_offers_is_flashed_from_outside(story_told: Story, folder: Path) -> None:
    stick, image = folder / "stick.img", folder / "os.img"
    stick.write_bytes(bytes(16 * MEGABYTE))
    # A disk with one partition, of something that is not all the same.
    table = bytes(446) + bytes.fromhex("0000000083000000") + (2048).to_bytes(4, "little")
    table += (8192).to_bytes(4, "little") + bytes(48) + b"\x55\xaa"
    image.write_bytes(table + bytes(index * 7 % 251 for index in range(6 * MEGABYTE - 512)))
    async with from_snapshot(story_told, folder) as (outside, machine):
        await machine.plug_stick("stick", "2", "STICK-42", stick)
        await machine.until("ls /dev/disk/by-id/*STICK-42*", seconds=300)
        await machine.put("/etc/jumpstarter/profiles.d/stick.yaml", STICK.encode())
        await machine.put("/etc/udev/rules.d/72-stick.rules", STICK_RULE.encode())
        await machine.sh("udevadm control --reload && udevadm trigger --settle --subsystem-match=block")
        await reload(machine)
        await until_listed(outside, machine, "the stick", is_available)
        await outside.run("jumpstarter", "storage", "flash", str(image), "-l", f"host={HOST}", seconds=900)
        assert stick.read_bytes()[: 6 * MEGABYTE] == image.read_bytes()
        assert not any(stick.read_bytes()[6 * MEGABYTE :])


async def test_an_adapter_is_who_it_was_in_another_socket(story_told: Story, folder: Path) -> None:
    async with from_snapshot(story_told, folder) as (outside, machine):
        await machine.plug_serial("first", "1", "LAB-0001")
        await until_listed(outside, machine, "available", is_available)
        before = await devices(machine)
        await machine.unplug("first")
        await until_listed(outside, machine, "unavailable", lambda listed: not is_available(listed))
        await machine.plug_serial("second", "3", "LAB-0001")
        await until_listed(outside, machine, "available again", is_available)
        assert await devices(machine) == before
        assert "ft232r-lab-0001.serial" in before
