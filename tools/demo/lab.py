"""A lab with a controller: two hosts join it, somebody leases a board and uses it, and somebody else waits for it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
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


def in_a_lab(folder: Path) -> None:
    """In that folder, which is the current one from now on: all files are there, and nobody else's are touched."""
    os.chdir(folder)
    os.environ["JMP_CLIENT_CONFIG_HOME"] = str(folder / "config")
    abbreviate(f"{folder}/", "")
    say(
        "A lab: one controller hands out the boards of many hosts. It needs a folder, and makes its own certificate."
    )
    with contextlib.ExitStack() as stack:
        address, fingerprint = stack.enter_context(_controller())
        say(
            "Hosts with boards join it with a pairing code that is good once. This one has a Raspberry Pi 4 ..."
        )
        stack.enter_context(_exporter("rpi4", address, fingerprint))
        say("... and this one a Raspberry Pi 5.")
        stack.enter_context(_exporter("rpi5", address, fingerprint, brief=True))
        say("People join in the same way. Here are Ann and Bob.")
        for name in ("ann", "bob"):
            code = _pair("client", name, brief=True)
            words = ["login", address, "--pairing-code", "--tls-fingerprint", fingerprint]
            run("jumpstarter", *words, typed=f"{code}\n")

        say("Ann looks what there is, and leases a board by its label.")
        run("jumpstarter", "exporters", expect="rpi4-1")
        lease = _lease()
        os.environ["JMP_LEASE"] = lease
        _use()
        _share(lease)
        if is_plugging_possible():
            plug_it_in(address, fingerprint, lambda: _pair("host", "pi4", brief=True))
        say("Nothing is left behind.")
        left = run("jumpstarter", "lease", "list", "--all-clients")
        if "bob" in left or "ann" in left:
            fail("a lease was left behind")


@contextlib.contextmanager
def _controller() -> Iterator[tuple[str, str]]:
    """Its address and its certificate's fingerprint."""
    words = ["run", "--with-router", "--data", "lab", "--log-level", "warning"]
    words += ["--listen", "127.0.0.1:0", "--router-listen", "127.0.0.1:0"]
    with service("jumpstarter-controller", *words, ready="fingerprint") as said:
        address = re.search(r"Listening on (\S+)", said)
        fingerprint = re.search(r"fingerprint (\S+)", said)
        if not address or not fingerprint:
            fail("the controller did not say where it listens")
        abbreviate(fingerprint[1], f"{fingerprint[1][:8]}:…")
        yield address[1], fingerprint[1]


@contextlib.contextmanager
def _exporter(board: str, address: str, fingerprint: str, *, brief: bool = False) -> Iterator[None]:
    """A host with a virtual board of that name, which joins the lab and serves its leases."""
    file = Path(f"{board}.yaml")
    file.write_text(CONFIG.read_text().replace("rpi4", board))
    code = _pair("exporter", f"{board}-1", "--label", f"board={board}", brief=brief)
    words = ["enrol", address, "--tls-fingerprint", fingerprint, "--config", file.name]
    state = {"JUMPSTARTER_STATE_DIRECTORY": str(Path.cwd() / f"state-{board}")}
    run("jumpstarter-exporter", *words, typed=f"{code}\n", brief=brief, **state)
    with service("jumpstarter-exporter", "run", "--config", file.name, ready="Serving leases", **state):
        yield


def _pair(kind: str, name: str, *labels: str, brief: bool) -> str:
    """A pairing code for somebody new."""
    words = ["admin", "pair", kind, name, *labels, "--data", "lab"]
    said = run("jumpstarter-controller", *words, brief=brief)
    code = said.split()[-1]
    if not re.fullmatch(r"[A-Z0-9]{4}(-[A-Z0-9]{4})+", code):
        fail(f"{code!r} is no pairing code")
    return code


def _lease() -> str:
    """Ann's lease of an rpi4."""
    words = ["jumpstarter", "lease", "create", "-l", "board=rpi4", "--duration", "10m", "-o", "name"]
    return run(*words, expect=r"^\S+\n$").strip()


def _use() -> None:
    """The main job, on the leased board: the commands are those of a board on this machine."""
    say("JMP_LEASE names the lease, and everything is as on the board's own host: flash, boot, log in ...")
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
    say("... and the same test, with nothing changed.")
    shutil.copy(TEST, ".")
    run("jumpstarter", "test", TEST.name, "--results", "results", expect="1 passed")


def _share(lease: str) -> None:
    """Bob wants the same board, waits for it, and gets it."""
    say(
        "Bob wants an rpi4, too. There is one, and Ann has it: he sees his place in the queue, and when he is next."
    )
    words = ["jumpstarter", "power", "on", "rpi4", "-l", "board=rpi4", "--client", "bob"]
    del os.environ["JMP_LEASE"]
    with background(*words) as (process, output):
        show(output.line("queue"))
        run("jumpstarter", "lease", "list", "--all-clients", expect="bob")
        say("Ann is done. Bob's command goes on by itself, and gives the board back when it has ended.")
        run("jumpstarter", "lease", "release", lease)
        if process.wait(timeout=COMMAND_SECONDS):
            show(output.pending.decode("utf-8", "replace"))
            fail(f"Bob's command ended with exit code {process.returncode}")
        show("(Bob's command has switched the board on.)")
