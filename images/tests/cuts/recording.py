"""Record every write to the card of an emulated host during its first days.

It enrols with a controller, records a console, gets another passphrase, reboots and gets another name.
What was seen from outside is marked with the length of the log: all that was promised by then is in the log before.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio
from machine import OUTSIDE, Image, Machine, Setup, start
from outside import lab, serve_time

from cuts.found import BAIT, BAIT_TEXT, NEW, RENAMED, SYNCED
from cuts.promises import IDENTITY, STATE
from cuts.story import Save, Story

__all__ = ["LIBRARY", "PATIENCE", "Place", "record"]

CARD_BYTES = 3 << 30
PATIENCE = 1800.0
"""Seconds for each step: an emulated host on a busy machine is slow, and nothing here is about time."""
SITE = "/boot/firmware/jumpstarter.yaml"
STATUS = "/boot/firmware/jumpstarter-status.txt"
LIBRARY = "/var/lib"
HOSTNAMES = ("lab-one", "lab-two")
PASSPHRASES = ("the first passphrase", "quite another one")


@dataclass(frozen=True)
class Place:
    """The files of a recording."""

    folder: Path

    @property
    def base(self) -> Path:
        """The card before the first start."""
        return self.folder / "base.img"

    @property
    def log(self) -> Path:
        """Its writes."""
        return self.folder / "writes.log"

    @property
    def story(self) -> Path:
        """What happened meanwhile."""
        return self.folder / "story.json"

    @property
    def labs(self) -> tuple[Path, Path]:
        """The controller before it had this host, and in the end."""
        return self.folder / "lab-before", self.folder / "lab-after"


class _Recorder:
    """Records the events."""

    def __init__(self, place: Place, story: Story) -> None:
        self.place = place
        self.story = story
        self.machine: Machine

    def mark(self, name: str) -> None:
        """Record an event now."""
        self.story.marks[name] = self.place.log.stat().st_size
        self.story.seconds[name] = round(trio.current_time() - self._begun, 1)
        self.story.write(self.place.story)
        print(f"{self.story.seconds[name]:7.1f} s  {name}", flush=True)

    def begin(self) -> None:
        """The time from which seconds are counted."""
        self._begun = trio.current_time()

    async def save(self, name: str, text: str) -> None:
        """Write the file on the running host, as an editor does that asks for the disk."""
        self.mark(f"{name} begun")
        await self.machine.sh(f"printf %s {shlex.quote(text)} >{SITE} && sync {SITE}")
        self.mark(f"{name} written")
        self.story.saves.append(Save(text, f"{name} begun", f"{name} written"))

    async def read(self, path: str) -> str:
        """Read a text file of the host."""
        return await self.machine.sh(f"cat {path}")


async def record(image: Image, place: Place, folder: Path) -> Story:
    """Start the host and do all of it.

    Args:
        image: What is on the card.
        place: Where the files are to be; emptied.
        folder: For sockets, whose paths are short.
    """
    shutil.rmtree(place.folder, ignore_errors=True)
    place.folder.mkdir(parents=True)
    before, after = place.labs
    before.mkdir()
    async with lab(before) as outside:
        made = await outside.offer(HOSTNAMES[0], "--valid", "24h")
    shutil.copytree(before, after)
    text = _site_text(made)
    story = Story(saves=[Save(text)], code=made["code"], hostnames=[*HOSTNAMES], passphrases=[*PASSPHRASES])
    story.image = subprocess.run(
        ["sha256sum", str(image.disk)], check=True, capture_output=True, text=True
    ).stdout.split()[0]
    _make_card(image, place, text)
    recorder = _Recorder(place, story)
    async with trio.open_nursery() as nursery, lab(after) as outside:
        nursery.start_soon(serve_time)
        recorder.begin()
        nursery.start_soon(_watch_controller, recorder, after / "controller.log")
        async with _switched_on(recorder, image, folder, "first start"):
            await _first_day(recorder)
        async with _switched_on(recorder, image, folder, "second start"):
            await _second_day(recorder)
        story.console = (folder / "console.log").read_text(errors="replace")[-3000:]
        nursery.cancel_scope.cancel()
    story.write(place.story)
    return story


def _site_text(made: dict[str, str]) -> str:
    """A file in which the passphrase crosses a border between sectors, the more difficult case."""
    head = (
        f"hostname: {HOSTNAMES[0]}\ntimeServer: {OUTSIDE}\nendpoint: {made['endpoint']}\n"
        f"fingerprint: {made['fingerprint']}\npairingCode: {made['code']}\n"
    )
    wifi = "wifi:\n  country: DE\n  ssid: My network\n  passphrase: "
    filling = "# " + "-" * (512 - len(head) - len(wifi) - 3 - 6) + "\n"
    return f"{head}{filling}{wifi}{PASSPHRASES[0]}\n# The end.\n"


def _make_card(image: Image, place: Place, text: str) -> None:
    """The card as it comes out of a person's laptop, and a copy that the host may write."""
    file = place.folder / "jumpstarter.yaml"
    file.write_text(text)
    subprocess.run(["cp", "--sparse=always", str(image.disk), str(place.base)], check=True)
    with place.base.open("r+b") as disk:
        disk.truncate(CARD_BYTES)
    subprocess.run(["mcopy", "-o", "-i", f"{place.base}@@4M", str(file), "::jumpstarter.yaml"], check=True)
    subprocess.run(["cp", "--sparse=always", str(place.base), str(place.folder / "card.img")], check=True)


@asynccontextmanager
async def _switched_on(recorder: _Recorder, image: Image, folder: Path, name: str) -> AsyncIterator[None]:
    """Run the host until it has switched itself off."""
    setup = Setup(log=recorder.place.log)
    async with start(setup, image, folder, recorder.place.folder / "card.img") as machine:
        recorder.machine = machine
        try:
            await machine.wait_for_shell(PATIENCE)
            recorder.mark(f"{name}: shell")
            yield
            await machine.wait_for_end(PATIENCE)
            recorder.mark(f"{name}: end")
        finally:
            shutil.copy(folder / "console.log", recorder.place.folder / f"console of {name}.log")


async def _watch_controller(recorder: _Recorder, log: Path) -> None:
    """When the code was used: the controller has given an identity away that the host may not have written yet."""
    while True:
        if log.exists() and re.search(r"\benrolled\b", log.read_text()):
            recorder.mark("code used")
            return
        await trio.sleep(0.02)


async def _first_day(recorder: _Recorder) -> None:
    machine, story = recorder.machine, recorder.story
    await _lay_bait(recorder)
    await machine.until(f"grep -q hostname.*{HOSTNAMES[0]} {LIBRARY}/{STATE}", seconds=PATIENCE)
    recorder.mark("applied")
    await machine.until(f"grep -q 'pairing_code.*\"\"' {LIBRARY}/{STATE}", seconds=PATIENCE)
    recorder.mark("enrolled")
    story.identity = await recorder.read(f"{LIBRARY}/{IDENTITY}")
    await machine.wait_until_running(PATIENCE)
    story.machine_id = (await recorder.read("/etc/machine-id")).strip()
    recorder.mark("running")
    await machine.until("systemctl is-active ssh.service", seconds=PATIENCE)
    names = (await machine.sh("cd /etc/ssh && ls ssh_host_*")).split()
    story.host_keys = {name: await recorder.read(f"/etc/ssh/{name}") for name in names}
    recorder.mark("sshd")
    await machine.until(f"grep -q {HOSTNAMES[0]} {STATUS}", seconds=PATIENCE)
    recorder.mark("status")

    socket = await machine.plug_serial("ftdi", "1", "LAB-0001")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_board, socket)
        await machine.until(
            f"test -n \"$(find {LIBRARY}/jumpstarter -name '*.console' -size +0)\"", seconds=PATIENCE
        )
        recorder.mark("console recorded")
        text = story.saves[-1].text.replace(PASSPHRASES[0], PASSPHRASES[1])
        await recorder.save("second passphrase", text)
        await machine.until(f"grep -q '{PASSPHRASES[1]}' {LIBRARY}/{STATE}", seconds=PATIENCE)
        recorder.mark("second passphrase kept")
        await machine.until(f"! grep -q '{PASSPHRASES[1]}' {SITE}", seconds=PATIENCE)
        recorder.mark("second passphrase out of the file")
        nursery.cancel_scope.cancel()
    machine.may_end = True
    await machine.sh("systemctl --no-block reboot", check=False)


async def _board(socket: Path) -> None:
    """A board that prints something from time to time."""
    async with await trio.open_unix_socket(socket) as stream:
        for number in range(100_000):
            await stream.send_all(f"line {number}: all is well\r\n".encode())
            await trio.sleep(0.5)


async def _lay_bait(recorder: _Recorder) -> None:
    """Programs that rename without fsync: a check of the disks that does not find what they lose cannot fail at all."""
    text = shlex.quote(BAIT_TEXT.decode().strip())
    machine = recorder.machine
    await machine.sh(f"mkdir -p /data/{BAIT} && cd /data/{BAIT} && echo before >{RENAMED} && sync")
    await machine.sh(
        f"cd /data/{BAIT}\n"
        f"echo {text} >part && sync part && mv part {SYNCED} && sync .\n"
        f"echo {text} >part && mv part {RENAMED} && echo {text} >part && mv part {NEW}"
    )
    recorder.mark("bait")
    await machine.sh("sync")
    recorder.mark("bait: on the disk")


async def _second_day(recorder: _Recorder) -> None:
    machine, story = recorder.machine, recorder.story
    await machine.wait_until_running(PATIENCE)
    recorder.mark("running again")
    text = (await recorder.read(SITE)).replace(HOSTNAMES[0], HOSTNAMES[1])
    await recorder.save("second name", text)
    await machine.until(f"grep -q hostname.*{HOSTNAMES[1]} {LIBRARY}/{STATE}", seconds=PATIENCE)
    recorder.mark("second name kept")
    await machine.until(f"test $(hostname) = {HOSTNAMES[1]}", seconds=PATIENCE)
    told = await recorder.read("/run/jumpstarter-image/data")
    assert told.strip() == "kept", f"the initial file system says of the data: {told}"
    assert story.identity == await recorder.read(f"{LIBRARY}/{IDENTITY}")
    machine.may_end = True
    await machine.sh("systemctl --no-block poweroff", check=False)
