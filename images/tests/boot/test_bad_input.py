"""A person's mistakes: the host stays within reach, says what is wrong in three places, and tries again."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import trio
from machine import OUTSIDE, Image, Machine, Setup, start
from outside import BIN, lab, serve_time

from conftest import with_file

pytestmark = pytest.mark.timeout(3000)

SETUP = Setup(extra=("-rtc", "base=1970-01-01T00:00:00"), forward=("tcp:22",))
HOST = "pi4"
FILE = "/boot/firmware/jumpstarter.yaml"
STATUS = "/boot/firmware/jumpstarter-status.txt"
JOURNAL = "journalctl -b -o cat --no-pager -u 'jumpstarter-image*'"
NOWHERE = "nowhere.invalid:8082"


class Person:
    """Who reaches the host by SSH, with the key that jumpstarter.yaml names."""

    def __init__(self, folder: Path) -> None:
        self._key = folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self._key], check=True)
        self.public = self._key.with_suffix(".pub").read_text().strip()

    async def ssh(self, command: str, given: str = "", seconds: float = 600) -> str:
        """Run a command as `lab`, as soon as the host lets them in; its output."""
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ConnectTimeout=20")
        words = ["ssh", "-q", "-i", str(self._key), *(word for one in options for word in ("-o", one))]
        with trio.fail_after(seconds):
            while True:
                done = await trio.run_process(
                    [*words, f"lab@{OUTSIDE}", command],
                    stdin=given.encode(),
                    capture_stdout=True,
                    capture_stderr=True,
                    check=False,
                )
                if done.returncode != 255:  # ssh's own
                    assert done.returncode == 0, (command, done.stdout, done.stderr)
                    return done.stdout.decode()
                await trio.sleep(1)

    async def save(self, text: str) -> None:
        """The file, as an editor on the host writes it."""
        await self.ssh(f"sudo tee {FILE} >/dev/null && sync", given=text)


async def until_said(machine: Machine, words: str) -> str:
    """Until all three places say it, and the whole status."""
    status = await machine.until(
        # Its lines are as wide as a window.
        f"tr -s '\\r\\n ' ' ' <{STATUS} | grep -F {shlex.quote(words)}",
        seconds=600,
    )
    await machine.until(f"{JOURNAL} | tr -s '\\r\\n ' ' ' | grep -qF {shlex.quote(words)}", seconds=60)
    with trio.fail_after(60):
        while words not in " ".join((machine.folder / "console.log").read_text(errors="replace").split()):
            await trio.sleep(0.2)
    return status


async def used_code(folder: Path, offer: dict[str, str]) -> None:
    """Somebody else has used the code."""
    command = [BIN / "jumpstarter-exporter", "enrol", offer["endpoint"]]
    command += ["--tls-fingerprint", offer["fingerprint"]]
    state = folder / "other"
    state.mkdir()
    await trio.run_process(
        command,
        stdin=f"{offer['code']}\n".encode(),
        env={"HOME": str(state), "JUMPSTARTER_STATE_DIRECTORY": str(state), "PATH": str(BIN)},
    )


@pytest.fixture
def ssh() -> None:
    if not shutil.which("ssh"):
        pytest.skip("missing: ssh; apt install openssh-client")


async def test_mistakes_are_said_and_what_corrects_them_is_used(
    ssh: None, twin: Image, folder: Path, nursery: trio.Nursery
) -> None:
    ben = Person(folder)
    head = f"timeServer: {OUTSIDE}\nsshKeys:\n  - {ben.public}\n"
    image = with_file(twin, folder, f"hostnam: {HOST}\n{head}")
    async with lab(folder) as outside, start(SETUP, image, folder) as machine:
        await machine.wait_for_shell()

        # A typo: the keys are used all the same.
        said = "jumpstarter.yaml, line 1, column 1: hostnam: unknown key; did you mean 'hostname'?"
        assert "the previous settings stay" in await until_said(machine, said)
        assert "did you mean 'hostname'?" in " ".join((await ben.ssh(f"sudo cat {STATUS}")).split())

        # A clock of another year, and nobody who knows better: no code is used, and local use has begun.
        offer = await outside.offer(HOST, "--valid", "2h")
        await used_code(folder, offer)
        await ben.ssh("sudo date -s '1975-01-01'")
        code = f"pairingCode: {offer['code']}\nfingerprint: {offer['fingerprint']}\n"
        await ben.save(f"hostname: {HOST}\n{head}endpoint: {NOWHERE}\n{code}")
        status = await until_said(machine, f"the time server {OUTSIDE} has not answered")
        assert "local use works" in status
        await until_said(machine, "not enrolled yet: the time is not known yet")
        await machine.until(f"test $(hostname) = {HOST}")
        assert "pi4" in await ben.ssh("sudo jumpstarter-exporter boards -o json")

        # Somebody tells the time; the controller's name is not found.
        nursery.start_soon(serve_time)
        status = await until_said(machine, "not enrolled yet: cannot connect to nowhere.invalid")
        assert abs(float(await machine.sh("date +%s")) - time.time()) < 60

        # The controller is there, and the code was used by somebody else.
        await ben.save(f"hostname: {HOST}\n{head}endpoint: {outside.endpoint}\n{code}")
        status = await until_said(machine, f"the controller at {outside.endpoint} refused:")
        assert offer["code"] not in status

        # A new one.
        offer = await outside.offer(HOST, "--valid", "2h", "--renew")
        code = f"pairingCode: {offer['code']}\nfingerprint: {offer['fingerprint']}\n"
        await ben.save(f"hostname: {HOST}\n{head}endpoint: {outside.endpoint}\n{code}")
        await outside.heard("exporter connected")
        await until_said(machine, f"this host is {HOST} of {outside.endpoint}")
        assert offer["code"] not in await ben.ssh(f"sudo cat {FILE}")
        await machine.wait_until_running()
