"""Plug it in and lease it: a serial adapter becomes a board of the lab, and stays the same one at another port."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tools.demo.stage import (
    COMMAND_SECONDS,
    Output,
    background,
    fail,
    run,
    run_until,
    say,
    service,
    show,
    show_board,
    show_command,
)
from tools.mocked_host.bench import FTDI, Bench
from tools.mocked_host.bus import INSTALL, is_possible

if TYPE_CHECKING:
    from tools.demo.lab import Pairing

GROUP = "ft232r-a50285bj"
DEVICE = f"{GROUP}.serial"


def plug_it_in(pair: Callable[[], Pairing]) -> None:
    """Plug in an adapter on a host with emulated devices. `pair` makes a code for the host."""
    say("Ann wants a board of the host pi4. That host does not exist yet, so she waits for it.")
    wait = ["lease", "create", "-l", "host=pi4", "--wait-for-board", "--duration", "10m", "-o", "name"]
    home = Path("bench").absolute()
    home.mkdir()
    bench = Bench(home)
    environment = {
        "JUMPSTARTER_STATE_DIRECTORY": str(home / "state"),
        "JUMPSTARTER_RUNTIME_DIRECTORY": str(home / "run"),
        "JMP_CLIENT_CONFIG_HOME": str(home / "config"),
    }
    try:
        with background("jumpstarter", *wait) as (process, output):
            show(output.line("no such board yet"))
            say("Now pi4 is enrolled, once for all its boards. No file describes its devices.")
            pair().join(brief=True, **environment)
            with service("jumpstarter-exporter", "run", ready="", **environment, **bench.environment):
                say(
                    "Somebody plugs in a serial adapter, which is connected to a board, at port 2 of the hub."
                )
                started = time.monotonic()
                board = bench.plug(2, *FTDI)
                lease = output.line(r"^[0-9a-f-]{36}$").split()[-1]
                process.wait(timeout=COMMAND_SECONDS)
                show(lease)
                _use(bench, board, lease, time.monotonic() - started)
    finally:
        bench.close_all()


def is_plugging_possible() -> bool:
    """Whether devices can be emulated here; prints what to install if not."""
    if not is_possible():
        say(f"The part about plugging in adapters is skipped, because umockdev is not installed: {INSTALL}")
    return is_possible()


def _use(bench: Bench, board: int, lease: str, seconds: float) -> None:
    say(f"{seconds:.1f} s later Ann has the board, and its console shows the board's output.")
    os.environ["JMP_LEASE"] = lease
    show_command(["export", f"JMP_LEASE={lease}"])
    _listen(board)
    say("The adapter is unplugged. The lease stays, and the device shows the reason.")
    bench.unplug(2)
    run_until("unplugged at", "jumpstarter", "devices")
    say("It is plugged in again, at port 4. It is the same device with the same name.")
    board = bench.plug(4, *FTDI)
    run_until(rf"{re.escape(GROUP)}.*\n.* serial +serial +ready", "jumpstarter", "devices")
    _listen(board)
    del os.environ["JMP_LEASE"]
    run("jumpstarter", "lease", "release", lease)
    bench.unplug(4)
    say("It is unplugged for good: nobody can lease the board, and everybody sees the reason.")
    # Its state and its devices are two reports, which can arrive in either order.
    device = re.escape(DEVICE)
    both = rf"(?ms){device} is missing: unplugged at.*^{device} +serial +missing"
    run_until(both, "jumpstarter", "exporters", "show", "pi4")


def _listen(board: int) -> None:
    """Read the console, on which the board prints until the text was read."""
    with background("jumpstarter", "serial", "pipe", "--input") as (_, output):
        show_board(_heard(board, output))


def _heard(board: int, output: Output) -> str:
    deadline = time.monotonic() + COMMAND_SECONDS
    while not (match := re.search(rb"rpi4 login: \r?\n", output.pending)):
        if time.monotonic() > deadline:
            fail("the console of the adapter said nothing")
        os.write(board, b"rpi4 login: \n")
        output.more(deadline, silence=0.1)
    return match[0].decode()
