"""Boot hosts from disks after power cuts, and check that each has its identity at its controller."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import trio
from machine import Image, Machine, MachineError, Setup, overlay, start
from outside import Lab, lab, serve_time

from cuts.check import Result
from cuts.disks import whole, work_folder
from cuts.power_cut import Cut
from cuts.promises import IDENTITY
from cuts.recording import LIBRARY, PATIENCE, Place
from cuts.story import Story
from cuts.write_log import WriteLog

__all__ = ["Boot", "boot", "spread"]


@dataclass
class Boot:
    """The result of a boot."""

    number: int
    """The number of the cut."""
    phase: str
    faults: list[str] = field(default_factory=list)
    shell_seconds: float = 0.0
    running_seconds: float = 0.0
    registered_seconds: float = 0.0
    hostname: str = ""
    data: str = ""
    """The report of the initial file system about the data partition."""
    identity: str = ""
    version: str = ""
    """The version of our packages."""
    console: str = ""


def spread(cuts: Sequence[tuple[int, Cut]], count: int) -> list[tuple[int, Cut]]:
    """Select some, evenly from early to late ones."""
    ordered = sorted(cuts, key=lambda one: one[1].point)
    if len(ordered) > count:
        ordered = [ordered[(2 * at + 1) * len(ordered) // (2 * count)] for at in range(count)]
    return sorted(ordered, key=lambda one: one[1].flushed)


async def boot(image: Image, place: Place, log: WriteLog, story: Story, result: Result, phase: str) -> Boot:
    """Boot the host with this disk, beside the controller in the state of that moment."""
    made = Boot(result.number, phase)
    with work_folder() as folder:
        disk = folder / "disk.img"
        whole(place.base, log, result.cut, disk)
        card = overlay(disk, folder, disk.stat().st_size)
        home = folder / "lab"
        shutil.copytree(place.labs[1 if result.is_enrolled else 0], home)
        async with trio.open_nursery() as nursery, lab(home) as outside:
            nursery.start_soon(serve_time)
            async with start(Setup(), image, folder, card) as machine:
                try:
                    await _look(machine, outside, story, result, made)
                except (MachineError, AssertionError) as error:
                    made.faults.append(str(error))
                made.console = machine.console_lines()
            nursery.cancel_scope.cancel()
    return made


async def _look(machine: Machine, outside: Lab, story: Story, result: Result, made: Boot) -> None:
    made.shell_seconds = await machine.wait_for_shell(PATIENCE)
    made.running_seconds = await machine.wait_until_running(PATIENCE)
    made.hostname = (await machine.sh("hostname")).strip()
    made.version = await machine.sh("dpkg-query -W -f '${Version}' jumpstarter-exporter")
    made.data = (await machine.sh("cat /run/jumpstarter-image/data")).strip()
    await machine.until(f"test -s {LIBRARY}/{IDENTITY}", seconds=PATIENCE)
    identity = await machine.sh(f"cat {LIBRARY}/{IDENTITY}")
    await _until_registered(machine, outside)
    made.registered_seconds = machine.seconds
    machine_id = (await machine.sh("cat /etc/machine-id")).strip()
    await machine.until("systemctl is-active ssh.service", seconds=PATIENCE)
    made.identity = "as before" if identity == story.identity else "enrolled now"
    made.faults += _differences(story, result, made, identity, machine_id)


def _differences(story: Story, result: Result, made: Boot, identity: str, machine_id: str) -> Iterator[str]:
    if made.data != "kept":
        yield f"the initial file system says of the data: {made.data}"
    # A name that was being written during the power cut may be applied now.
    names = (result.hostname, story.hostnames[-1]) if result.hostname else story.hostnames
    if made.hostname not in names:
        yield f"the host is called {made.hostname}; its state said {result.hostname or 'nothing'}"
    if result.is_whole_identity and identity != story.identity:
        yield "the host has another identity"
    if len(machine_id) != 32 or (len(result.machine_id) == 32 and machine_id != result.machine_id):
        yield f"the machine's id is {machine_id}; the disk had {result.machine_id or 'none'}"


async def _until_registered(machine: Machine, outside: Lab, seconds: float = PATIENCE) -> None:
    with trio.move_on_after(seconds):
        while True:
            listed = await outside.exporters()
            # Read the log of this run of the controller, because its record of the exporter may be older.
            is_connected = "exporter connected" in (outside.folder / "controller.log").read_text()
            if is_connected and listed and all(one.get("status") != "OFFLINE" for one in listed):
                return
            await trio.sleep(0.5)
    said = await machine.sh(
        "jumpstarter-image status; journalctl -b --no-pager -u 'jumpstarter*' | tail -40", check=False
    )
    raise MachineError(f"not at its controller after {seconds:.0f} s: {listed}\n{said}")
