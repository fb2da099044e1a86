"""Updates of a host that is enrolled, with real packages: `make deb` makes the newer one, see docs/image.md."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from enrolled import CARD, HOST, SETUP, Story, from_snapshot
from machine import Machine, start
from outside import Lab, until_listed

pytestmark = pytest.mark.timeout(3000)

DEB = "/root/exporter.deb"
RECORD = "/var/lib/jumpstarter-image/update/record.json"
LAST = "/var/lib/jumpstarter-image/last-update.json"
PORT = "/dev/ttyUSB0"
HOLDER = f"""\
import ctypes, os, subprocess, time
call = ctypes.CDLL(None).syscall
PIDFD_OPEN, PIDFD_GETFD, KCMP = 434, 438, {{"x86_64": 312, "aarch64": 272}}[os.uname().machine]
# By the device, as the path is that in the first exporter's mount namespace, which is gone with it.
device = os.stat("{PORT}").st_rdev
def exporter():
    show = ["systemctl", "show", "jumpstarter-exporter", "-p", "MainPID", "--value"]
    pid = int(subprocess.run(show, capture_output=True, check=True).stdout)
    found = []
    for one in os.listdir(f"/proc/{{pid}}/fd"):
        try:
            if os.stat(f"/proc/{{pid}}/fd/{{one}}").st_rdev == device:
                found.append(int(one))
        except OSError:
            pass
    return pid, found
first, [port] = exporter()
held = call(PIDFD_GETFD, call(PIDFD_OPEN, first, 0), port, 0)
assert held >= 0
open("/run/holds", "w")
while not os.path.exists("/run/ask"):
    time.sleep(0.2)
pid, found = exporter()
same = [one for one in found if call(KCMP, os.getpid(), pid, 0, held, one) == 0]
print("another process:", pid != first, "its ports:", len(found), "the same:", len(same))
"""
"""Takes hold of the port as the exporter has it open, and says in the end whether it is still that one (kcmp(2))."""
LEASE = "touch leased; until [ -e over ]; do sleep 0.2; done"


async def bring(machine: Machine, package: Path) -> None:
    """A person's stick with the package, which they copy to their folder."""
    image = machine.folder / "stick.img"
    shutil.copyfile(package, image)
    size = package.stat().st_size
    with image.open("r+b") as stick:
        stick.truncate(-(-size // 512) * 512)
    await machine.plug_stick("stick", "2", "STICK-42", image)
    disk = (await machine.until("ls /dev/disk/by-id/*STICK-42*", seconds=300)).split()[0]
    await machine.sh(f"head -c {size} {disk} >{DEB}")
    await machine.unplug("stick")


async def version(machine: Machine) -> str:
    """Of the exporter's package."""
    return (await machine.sh("dpkg-query -W -f '${Version}' jumpstarter-exporter")).strip()


async def until_sealed(machine: Machine) -> None:
    """The root and the list of packages are as they were before."""
    await machine.until("findmnt -no FS-OPTIONS / | grep -q '^ro'", seconds=120)
    await machine.until("findmnt -no OPTIONS /var/lib/dpkg | grep -q '^ro'", seconds=30)


def broken(package: Path, folder: Path) -> Path:
    """The same with a program that only fails, as a version of its own."""
    root, made = folder / "broken", folder / "broken.deb"
    subprocess.run(["dpkg-deb", "--raw-extract", package, root], check=True)
    control = root / "DEBIAN/control"
    control.write_text(control.read_text().replace("Version: 100", "Version: 101"))
    program = root / "usr/bin/jumpstarter-exporter"
    program.unlink()
    program.write_text("#!/bin/sh\necho it does not work >&2\nexit 1\n")
    program.chmod(0o755)
    subprocess.run(["dpkg-deb", "-Zgzip", "--root-owner-group", "--build", root, made], check=True)
    return made


@asynccontextmanager
async def leased(outside: Lab) -> AsyncIterator[None]:
    """While the block lasts Ann has the board."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outside.run, "jumpstarter", "shell", "-l", f"host={HOST}", "--", "sh", "-c", LEASE)
        with trio.fail_after(300):
            while not (outside.folder / "leased").exists():
                await trio.sleep(0.1)
        yield
        (outside.folder / "over").touch()


async def test_a_newer_package_is_installed_when_nobody_has_the_board_and_its_port_stays_open(
    newer: Path, story_told: Story, folder: Path
) -> None:
    async with from_snapshot(story_told, folder) as (outside, machine):
        await bring(machine, newer)
        before = await version(machine)
        await machine.plug_serial("ftdi", "1", "LAB-0001")
        await until_listed(outside, machine, "available", lambda listed: listed[0]["status"] == "AVAILABLE")

        async with leased(outside):
            refused = await machine.sh(
                f"jumpstarter-image update {DEB}; [ $? = 5 ] && echo refused", seconds=300
            )
            assert "is leased by ann" in refused
            assert refused.splitlines()[-1] == "refused"
            assert await version(machine) == before
            assert (await machine.sh("findmnt -no FS-OPTIONS /")).startswith("ro")
        await until_listed(outside, machine, "free again", lambda listed: listed[0]["state"] == "free")

        await machine.put("/root/holder.py", HOLDER.encode())
        await machine.sh("python3.13 /root/holder.py >/root/held 2>&1 &")
        await machine.until("test -e /run/holds || { cat /root/held; false; }")
        said = await machine.sh(f"jumpstarter-image update {DEB}", seconds=1500)
        assert f"jumpstarter-exporter 100+deb13 in place of {before}" in said
        assert await version(machine) == "100+deb13"
        await machine.sh("touch /run/ask")
        held = await machine.until("test -s /root/held && cat /root/held")
        assert held.strip() == "another process: True its ports: 1 the same: 1"
        await until_sealed(machine)
        await until_listed(outside, machine, "available", lambda listed: listed[0]["status"] == "AVAILABLE")
        assert await machine.sh("systemctl --failed --no-legend --plain") == ""


async def test_a_version_that_does_not_become_ready_is_taken_back(
    newer: Path, story_told: Story, folder: Path
) -> None:
    package = broken(newer, folder)
    async with from_snapshot(story_told, folder) as (outside, machine):
        before = await version(machine)
        await bring(machine, package)
        said = await machine.sh(
            f"jumpstarter-image update {DEB}; [ $? = 10 ] && echo taken back", seconds=2000
        )
        assert said.splitlines()[-1] == "taken back"
        assert "was taken back: jumpstarter-exporter was not ready" in said
        assert await version(machine) == before
        await until_sealed(machine)
        await machine.sh("systemctl is-active jumpstarter-exporter")
        status = await machine.until(
            "grep -q 'was taken back' /boot/firmware/jumpstarter-status.txt && "
            "cat /boot/firmware/jumpstarter-status.txt",
            seconds=400,
        )
        assert "101+deb13" in status
        await machine.plug_serial("ftdi", "1", "LAB-0001")
        await until_listed(outside, machine, "available", lambda listed: listed[0]["status"] == "AVAILABLE")


async def test_a_power_cut_in_the_middle_of_dpkg_is_followed_by_the_new_version(
    newer: Path, story_told: Story, folder: Path
) -> None:
    async with from_snapshot(story_told, folder) as (outside, machine):
        await bring(machine, newer)
        await machine.sh("sync")
        await machine.sh(f"systemd-run -q --no-block jumpstarter-image update {DEB}")
        await machine.until(
            "dpkg-query -W -f '${Status}' jumpstarter-exporter | grep -qE 'half-installed|unpacked'",
            seconds=600,
        )
        record = json.loads(await machine.sh(f"cat {RECORD}"))
        assert record["step"] == "installing"
        await machine.cut_power()

        async with start(SETUP, story_told.image, folder, folder / CARD) as again:
            await again.wait_for_shell()
            await again.until(f"test -e {LAST}", seconds=1800)
            ended = json.loads(await again.sh(f"cat {LAST}"))
            assert ended["ending"] == "installed", ended
            assert await version(again) == "100+deb13"
            assert (await again.sh("dpkg --audit")) == ""
            await until_sealed(again)
            await again.sh("systemctl is-active jumpstarter-exporter")
            await again.plug_serial("ftdi", "1", "LAB-0001")
            await until_listed(outside, again, "available", lambda listed: listed[0]["status"] == "AVAILABLE")
