"""The work on a virtual board: on this machine, or on a leased board."""

from __future__ import annotations

import os
from pathlib import Path

from jumpstarter_drivers.virtual import __file__ as virtual_folder
from jumpstarter_drivers.virtual.image import MIB, BootImage, make_image

from tools.demo.stage import Console, fail, run, say, service, show

CONFIG = Path(virtual_folder).with_name("example.yaml")
TEST = Path(__file__).parents[2] / "docs" / "examples" / "boot.yaml"
IMAGE_MIB = 64


def on_this_machine(folder: Path) -> None:
    """Start an exporter on a private socket, and use its board in every way."""
    socket = folder / "exporter.sock"
    image = folder / "hello.img"
    say(
        "An exporter serves the boards of one host. This one serves a virtual board, which needs no hardware."
    )
    os.environ["JUMPSTARTER_STATE_DIRECTORY"] = str(folder / "state")
    config = os.path.relpath(CONFIG)
    with service(
        "jumpstarter-exporter", "run", "--config", config, "--socket", str(socket), ready=str(socket)
    ):
        os.environ["JUMPSTARTER_HOST"] = str(socket)

        say("Which devices does the board have?")
        run("jumpstarter", "devices", expect="rpi4")

        say(f"Flash an image of {IMAGE_MIB} MiB, made for this demo.")
        made = make_image(image, "hello", "1.0", IMAGE_MIB * MIB)
        run("jumpstarter", "storage", "flash", "rpi4", str(image), expect="verified")
        boot(made)

        say("The exporter has recorded all output of the console. When did the kernel start?")
        log = run("jumpstarter", "serial", "log", "rpi4", "--grep", "Starting kernel", "--timestamps")
        if log.count("Starting kernel") < 2:
            fail("the recording should have two boots")

        say("The same steps as a test in YAML: it flashes, boots, logs in, checks the image, and cleans up.")
        words = ["--set", f"image={image}", "--results", str(folder / "results")]
        run("jumpstarter", "test", os.path.relpath(TEST), *words, expect="1 passed")
        [summary] = (folder / "results").glob("*/*/summary.txt")
        say("The results of that run, beside the console's log:")
        show(summary.read_text())
    del os.environ["JUMPSTARTER_HOST"]


def boot(made: BootImage) -> None:
    """Switch the board on and off, and check that it boots the image."""
    say("Switch the board on and wait for its login prompt.")
    console = Console("jumpstarter", "serial", "pipe", "rpi4")
    try:
        run("jumpstarter", "power", "on", "rpi4")
        log = console.expect(rb"login: ", nudge=b"\n")
        if "Loading image" in log and made.digest[:12] not in log:
            fail("the board booted another image than the one flashed")

        say("Log in and run a command.")
        look(console, made)

        say("Power-cycle it.")
        run("jumpstarter", "power", "cycle", "rpi4", "--wait", "0.2")
        booted = console.expect(rb"login: ", nudge=b"\n", only="^U-Boot SPL|^Loading|login:")
        if "Starting kernel" not in booted:
            fail("the board did not boot again")
    finally:
        console.close()
    run("jumpstarter", "power", "off", "rpi4")


def look(console: Console, made: BootImage) -> None:
    """Log in, and check that the board runs the image."""
    console.type("root")
    console.expect(rb"# ")
    console.type("cat /etc/os-release; uname -a; echo status=$?")
    if made.digest not in console.expect(rb"status=0\r\n# "):
        fail("the board runs another image than the one flashed")
