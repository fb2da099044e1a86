"""The surroundings of the emulated computer: a lab's controller, a user, and a time server."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from machine import OUTSIDE, Machine

BIN = Path(sys.executable).parent
LOG = "controller.log"
NTP_TO_UNIX = 2_208_988_800


async def serve_time() -> None:
    """Run a time server (RFC 5905, as needed by SNTP clients) on port 123 with this computer's time."""
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
        await socket.bind(("0.0.0.0", 123))
        while True:
            asked, peer = await socket.recvfrom(512)
            if len(asked) < 48:
                continue
            now = int((time.time() + NTP_TO_UNIX) * 2**32).to_bytes(8)
            # No leap second, version 4, server; stratum 1; a clock good to a microsecond.
            head = struct.pack("!BBbb", 0x24, 1, 6, -20) + bytes(8) + b"TEST"
            await socket.sendto(head + now + asked[40:48] + now + now, peer)


async def ask_time(seconds: float = 60) -> tuple[int, float]:
    """Ask the guest for the time, through the port that it forwards.

    Returns:
        Its stratum, and the seconds since 1970.
    """
    question = struct.pack("!B47x", 0x23)  # version 4, a client
    with trio.fail_after(seconds), trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
        # The emulator's network takes answers to OUTSIDE to the loopback's own address.
        await socket.connect(("127.0.0.1", 123))
        while True:
            with trio.move_on_after(2):
                try:
                    await socket.send(question)
                    answer = await socket.recv(512)
                except OSError:  # nobody listens yet
                    await trio.sleep(0.5)
                    continue
                return answer[1], int.from_bytes(answer[40:48]) / 2**32 - NTP_TO_UNIX


def site_file(hostname: str, offer: Mapping[str, str]) -> str:
    """A jumpstarter.yaml with the lines that the controller has printed."""
    return (
        f"hostname: {hostname}\ntimeServer: {OUTSIDE}\nendpoint: {offer['endpoint']}\n"
        f"fingerprint: {offer['fingerprint']}\npairingCode: {offer['code']}\n"
    )


async def echo(socket: Path) -> None:
    """A board at the other end of a serial adapter, which echoes its input in capitals while it is plugged in."""
    async with await trio.open_unix_socket(socket) as stream:
        async for data in stream:
            await stream.send_all(data.upper())


class Lab:
    """A controller with its router, and the commands of users outside."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.endpoint = f"{OUTSIDE}:{port}"
        self._environment = {**os.environ, "HOME": str(folder), "JMP_CLIENT_CONFIG": str(folder / "ann.yaml")}

    async def run(self, *words: str, check: bool = True, seconds: float = 300) -> str:
        """Run a command of ours. Returns its output."""
        with trio.fail_after(seconds):
            done = await trio.run_process(
                [str(BIN / words[0]), *words[1:]],
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env=self._environment,
                cwd=self.folder,
            )
        said = done.stdout.decode()
        assert done.returncode == 0 or not check, (
            f"{words}: {done.returncode}\n{said}\n{done.stderr.decode()}"
        )
        return said

    async def offer(self, host: str, *words: str) -> dict[str, str]:
        """Make a pairing code for a host."""
        said = await self.run(
            "jumpstarter-controller", "admin", "pair", "host", host, *words, "--data", "lab", "-o", "json"
        )
        made: dict[str, str] = json.loads(said)
        return made

    async def heard(self, words: str, seconds: float = 900) -> None:
        """Wait for a line in the controller's log. This uses less of the emulated computer than listing exporters.

        Raises:
            AssertionError: It did not appear within the time limit.
        """
        with trio.move_on_after(seconds):
            while words not in (self.folder / LOG).read_text():
                await trio.sleep(0.1)
            return
        raise AssertionError(f"{words!r}: not after {seconds:.0f} s\n{(self.folder / LOG).read_text()}")

    async def exporters(self) -> list[dict[str, Any]]:
        """List the boards at the controller."""
        said = json.loads(await self.run("jumpstarter", "exporters", "-o", "json"))
        listed: list[dict[str, Any]] = said["exporters"] if isinstance(said, dict) else said
        return listed


async def until_listed(
    lab: Lab,
    machine: Machine,
    what: str,
    holds: Callable[[list[dict[str, Any]]], bool],
    seconds: float = 900,
) -> list[dict[str, Any]]:
    """Wait until the controller's list of exporters meets a condition. Returns the list.

    Raises:
        AssertionError: It did not, within the time limit; the message has the status of the host.
    """
    listed: list[dict[str, Any]] = []
    with trio.move_on_after(seconds):
        while not holds(listed := await lab.exporters()):
            await trio.sleep(0.5)
        return listed
    status = await machine.sh(
        "cat /boot/firmware/jumpstarter-status.txt; journalctl -b --no-pager -u 'jumpstarter*' | tail -60",
        check=False,
    )
    raise AssertionError(f"{what}: not after {seconds:.0f} s\n{listed}\n{status}\n{machine.console()}")


@asynccontextmanager
async def lab(folder: Path, port: int = 8082) -> AsyncIterator[Lab]:
    """Run a controller with a client Ann for `run`. The folder of an earlier controller is used again."""
    made = Lab(folder, port)
    endpoint, router = made.endpoint, f"{OUTSIDE}:{port + 1}"
    command = [
        *(str(BIN / "jumpstarter-controller"), "run", "--with-router", "--data", "lab"),
        *("--listen", f"0.0.0.0:{port}", "--endpoint", endpoint),
        *("--router-listen", f"0.0.0.0:{port + 1}", "--router-endpoint", router),
    ]
    log = folder / LOG
    with log.open("wb") as file:
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, cwd=folder
        )
    try:
        with trio.fail_after(60):
            while True:
                assert process.poll() is None, log.read_text()
                try:
                    stream = await trio.open_tcp_stream(OUTSIDE, port)
                except OSError:
                    await trio.sleep(0.1)
                else:
                    await stream.aclose()
                    break
        if not (folder / "ann.yaml").exists():
            await made.run(
                *("jumpstarter-controller", "admin", "client", "create", "ann", "--data", "lab"),
                *("--save", "ann.yaml"),
            )
        yield made
    finally:
        process.terminate()
        with trio.CancelScope(shield=True):
            with trio.move_on_after(10):
                await process.wait()
            process.kill()
            await process.wait()
