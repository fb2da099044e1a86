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
