"""An enrolled host: booted from power-on in a minute, or restored from a snapshot in a second.

The story from power-on creates the snapshot: the state of the emulated computer in the card's file, and the lab's
controller. Each test that uses the snapshot gets copies of both.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio
from machine import Image, Machine, Setup, start
from outside import Lab, lab, serve_time, site_file, until_listed

from conftest import with_file

SNAPSHOT = "enrolled"
HOST = "pi4"
CARD = "card.qcow2"
SETUP = Setup()


@dataclass
class Story:
    """The results of the way from power-on to an enrolled host."""

    folder: Path
    code: str = ""
    """The pairing code that was used."""
    registered: float = 0.0
    """Seconds from power until the controller had the host's first exporter..."""
    registered_processor: float = 0.0
    """...and the processor time of the emulator until then."""
    is_complete: bool = False
    image: Image = field(default_factory=lambda: Image(Path(), Path()))


@asynccontextmanager
async def from_power(twin: Image, story: Story) -> AsyncIterator[tuple[Lab, Machine]]:
    """Boot a host from a card with a jumpstarter.yaml, until it is running and enrolled.

    The snapshot does not contain the actions of the block, and is complete when the block has ended.
    """
    folder = story.folder
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_time)
        async with lab(folder) as outside:
            made = await outside.offer(HOST, "--valid", "1h")
            story.code = made["code"]
            story.image = with_file(twin, folder, site_file(HOST, made))
            async with start(SETUP, story.image, folder) as machine:
                await machine.wait_for_shell()
                await outside.heard("exporter connected")
                story.registered = machine.seconds
                story.registered_processor = machine.processor_seconds()
                await until_listed(outside, machine, "registered", lambda listed: len(listed) == 1)
                await machine.wait_until_running()
                await machine.until("! grep -q HOST- /boot/firmware/jumpstarter.yaml", seconds=300)
                await machine.save(SNAPSHOT)
                try:
                    yield outside, machine
                finally:
                    # Also after a failure, because the failure happened after the snapshot.
                    await machine.cut_power()
                    story.is_complete = True
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def from_snapshot(story: Story, folder: Path) -> AsyncIterator[tuple[Lab, Machine]]:
    """Restore the host: enrolled, running and connected, with nothing plugged in."""
    shutil.copytree(
        story.folder, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("card.*", "*.sock", "*.log")
    )
    subprocess.run(["cp", "--sparse=always", story.folder / CARD, folder / CARD], check=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_time)
        async with (
            lab(folder) as outside,
            start(SETUP, story.image, folder, folder / CARD, SNAPSHOT) as machine,
        ):
            await machine.wait_for_shell()
            # Its connections belong to the emulator of the snapshot and were never closed, so it would wait for them.
            await machine.sh("ss -K -t dst 10.0.2.2")
            await outside.heard("exporter connected")
            yield outside, machine
        nursery.cancel_scope.cancel()
