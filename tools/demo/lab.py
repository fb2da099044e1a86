"""A lab with a controller: two hosts join it, one user leases a board and uses it, and another user waits for it."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jumpstarter_drivers.virtual.image import MIB, make_image

from tools.demo.board import CONFIG, TEST, look
from tools.demo.plug import is_plugging_possible, plug_it_in
from tools.demo.stage import (
    COMMAND_SECONDS,
    Console,
    abbreviate,
    background,
    fail,
    run,
    say,
    service,
    show,
    show_command,
)

IMAGE_MIB = 16


@dataclass(frozen=True)
class ThereLab:
    """A lab that exists already, and continues after the demo."""

    data: Path
    """The folder of a controller that runs on this machine."""
    namespace: str


@dataclass(frozen=True)
class Pairing:
    """A pairing: the command and the code for a new client or host."""

    command: list[str]
    code: str

    def join(self, *words: str, brief: bool = False, **environment: str) -> None:
        """Run the command, with more arguments, and enter the code."""
        run(*self.command, *words, typed=f"{self.code}\n", brief=brief, **environment)


@dataclass(frozen=True)
class DemoLab:
    """The administration of the lab, and the objects to remove at the end."""

    options: tuple[str, ...]
    stack: contextlib.ExitStack
    stays: bool

    def pair(self, kind: str, name: str, *labels: str, brief: bool = False) -> Pairing:
        """Make a pairing code for a new client or exporter."""
        said = run("jumpstarter-controller", "admin", "pair", kind, name, *labels, *self.options, brief=brief)
        command = re.search(r"(?m)^ +(jumpstarter.*)$", said)
        code = said.split()[-1]
        if not command or not re.fullmatch(r"[A-Z0-9]{4}(-[A-Z0-9]{4})+", code):
            fail("the controller did not print the command for the pairing")
        if self.stays:
            self.stack.callback(self._remove, kind, name)
        words = shlex.split(command[1])
        fingerprint = words[words.index("--tls-fingerprint") + 1]
        abbreviate(fingerprint, f"{fingerprint[:8]}:…")
        return Pairing(words, code)

    def _remove(self, kind: str, name: str) -> None:
        """Remove the objects of the demo from an existing lab."""
        run("jumpstarter-controller", "admin", kind, "delete", name, *self.options)


def in_a_lab(folder: Path, there: ThereLab | None = None) -> None:
    """Run in that folder, which becomes the current one, so that no other files are changed."""
    os.chdir(folder)
    os.environ["JMP_CLIENT_CONFIG_HOME"] = str(folder / "config")
    abbreviate(f"{folder}/", "")
    with contextlib.ExitStack() as stack:
        if there is None:
            say(
                "A lab: one controller leases the boards of many hosts. It needs only a folder, and creates its own "
                "certificate."
            )
            stack.enter_context(_controller())
            lab = DemoLab(("--data", "lab"), stack, stays=False)
        else:
            say("This lab exists already. The demo removes everything that it adds.")
            abbreviate(str(there.data), there.data.name)
            options = ("--namespace", there.namespace, "--data", str(there.data))
            lab = DemoLab(options, stack, stays=True)
        say(
            "Hosts join the lab with a pairing code, which can be used once. This host has a Raspberry Pi 4 ..."
        )
        _exporter("rpi4", lab)
        say("... and this host has a Raspberry Pi 5.")
        _exporter("rpi5", lab, brief=True)
        say("Users join in the same way. Here are Ann and Bob.")
        for name in ("ann", "bob"):
            lab.pair("client", name, brief=True).join()

        say("Ann lists the boards, and leases one by its label.")
        run("jumpstarter", "exporters", expect="rpi4-1")
        lease = _lease()
        os.environ["JMP_LEASE"] = lease
        _use()
        _share(lease)
        if is_plugging_possible():
            plug_it_in(lambda: lab.pair("host", "pi4", brief=True))
        say("No lease is left.")
        left = run("jumpstarter", "lease", "list", "--all-clients")
        if "bob" in left or "ann" in left:
            fail("a lease was left behind")


@contextlib.contextmanager
def _controller() -> Iterator[None]:
    """Start the demo's own controller, with its state in `lab`."""
    words = ["run", "--with-router", "--data", "lab", "--log-level", "warning"]
    words += ["--listen", "127.0.0.1:0", "--router-listen", "127.0.0.1:0"]
    with service("jumpstarter-controller", *words, ready="fingerprint"):
        yield


def _exporter(board: str, lab: DemoLab, *, brief: bool = False) -> None:
    """Start a host with a virtual board of that name, which joins the lab and serves leases."""
    file = Path(f"{board}.yaml")
    file.write_text(CONFIG.read_text().replace("rpi4", board))
    state = {"JUMPSTARTER_STATE_DIRECTORY": str(Path.cwd() / f"state-{board}")}
    pairing = lab.pair("exporter", f"{board}-1", "--label", f"board={board}", brief=brief)
    pairing.join("--config", file.name, brief=brief, **state)
    words = ["run", "--config", file.name]
    lab.stack.enter_context(service("jumpstarter-exporter", *words, ready="Serving leases", **state))


def _lease() -> str:
    """Lease an rpi4 for Ann."""
    words = ["jumpstarter", "lease", "create", "-l", "board=rpi4", "--duration", "10m", "-o", "name"]
    return run(*words, expect=r"^\S+\n$").strip()


def _use() -> None:
    """Use the leased board, with the same commands as for a board on this machine."""
    say(
        "With JMP_LEASE set to her lease, the commands are the same as on the board's host: flash, boot, log in ..."
    )
    show_command(["export", f"JMP_LEASE={os.environ['JMP_LEASE']}"])
    image = Path("hello.img")
    made = make_image(image, "hello", "2.0", IMAGE_MIB * MIB)
    run("jumpstarter", "storage", "flash", "rpi4", str(image), expect="verified")
    console = Console("jumpstarter", "serial", "pipe", "rpi4")
    try:
        run("jumpstarter", "power", "on", "rpi4")
        console.expect(rb"login: ", nudge=b"\n", only="^U-Boot SPL|^Loading|login:")
        look(console, made)
    finally:
        console.close()
    say("... and the same test file, unchanged.")
    shutil.copy(TEST, ".")
    run("jumpstarter", "test", TEST.name, "--results", "results", expect="1 passed")


def _share(lease: str) -> None:
    """Let Bob wait for the same board, and get it."""
    say(
        "Bob needs an rpi4, too, but Ann uses the only one. He sees his position in the queue, and when his turn comes."
    )
    words = ["jumpstarter", "power", "on", "rpi4", "-l", "board=rpi4", "--client", "bob"]
    del os.environ["JMP_LEASE"]
    with background(*words) as (process, output):
        show(output.line("queue"))
        run("jumpstarter", "lease", "list", "--all-clients", expect="bob")
        say("Ann releases her lease. Bob's command continues by itself, and releases the board at its end.")
        run("jumpstarter", "lease", "release", lease)
        if process.wait(timeout=COMMAND_SECONDS):
            show(output.pending.decode("utf-8", "replace"))
            fail(f"Bob's command ended with exit code {process.returncode}")
        show("(Bob's command has switched the board on.)")
