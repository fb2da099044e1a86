"""The main job on a virtual board, as a user does it: every line that starts with $ can be typed.

Run by `make demo`. It starts an exporter on a private socket and drives it with the command line; it ends
with an error when anything is not as it should be, and leaves nothing running.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NoReturn

from jumpstarter_drivers.virtual import __file__ as virtual_folder
from jumpstarter_drivers.virtual.image import MIB, make_image

CONFIG = Path(virtual_folder).with_name("example.yaml")
TEST = Path(__file__).parents[1] / "docs" / "examples" / "boot.yaml"
BIN = Path(sys.executable).parent
COMMAND_SECONDS = 60
BOOT_SECONDS = 30
IMAGE_MIB = 64

TERMINAL = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def styled(text: str, code: str) -> str:
    """Colour for a terminal, plain text for a file."""
    return f"\033[{code}m{text}\033[0m" if TERMINAL else text


def say(text: str) -> None:
    """What happens next, in words."""
    print(f"\n{styled(text, '1')}")


def show_command(words: list[str], *, background: bool = False) -> None:
    """A command as a user types it."""
    print(styled(f"$ {shlex.join(words)}{' &' if background else ''}", "36"), flush=True)


def show(text: str) -> None:
    """Output of a command or of the board."""
    for line in text.rstrip().splitlines():
        print(f"  {line.rstrip()}", flush=True)


def show_board(line: str) -> None:
    """A line of the board's console."""
    print(f"  {styled('│', '2')} {line.rstrip()}", flush=True)


def fail(reason: str) -> NoReturn:
    """End the demo: something is not as it should be."""
    print(styled(f"demo: {reason}", "31"), file=sys.stderr)
    raise SystemExit(1)


def run(*words: str, expect: str = "") -> str:
    """Run a command to its end, show it, and check that it worked and said `expect`, an expression."""
    show_command(list(words))
    try:
        # Standard error stays the terminal's, where progress is drawn.
        done = subprocess.run(
            [BIN / words[0], *words[1:]],
            stdout=subprocess.PIPE,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        fail(f"`{shlex.join(words)}` was not done after {COMMAND_SECONDS} s")
    show(done.stdout)
    if done.returncode:
        fail(f"`{shlex.join(words)}` ended with exit code {done.returncode}")
    if not re.search(expect, done.stdout):
        fail(f"`{shlex.join(words)}` should have said {expect!r}")
    return done.stdout


class Console:
    """The board's console through `jumpstarter serial pipe`, as a script uses it."""

    def __init__(self, *words: str) -> None:
        show_command(list(words), background=True)
        self.process = subprocess.Popen(
            [BIN / words[0], *words[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.input: IO[bytes] = self.process.stdin
        self.output: IO[bytes] = self.process.stdout
        self.errors: IO[bytes] = self.process.stderr
        self.pending = b""
        self.shown = 0

    def expect(self, pattern: bytes, *, nudge: bytes = b"", only: str = "") -> str:
        """Everything up to `pattern`, shown line by line as it comes.

        `nudge` is typed when the board is silent, as a person would; `only` picks the lines to show.
        """
        deadline = time.monotonic() + BOOT_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self.output, selectors.EVENT_READ)
            while not (match := re.search(pattern, self.pending)):
                if time.monotonic() > deadline:
                    fail(
                        f"the board did not say {pattern!r} in {BOOT_SECONDS} s, only {self.pending[-500:]!r}"
                    )
                if not selector.select(timeout=3):
                    self.input.write(nudge)
                    continue
                data = os.read(self.output.fileno(), 65536)
                if not data:
                    fail(f"the console closed: {self.errors.read().decode()}")
                self.pending += data
                self._show(self.pending.rfind(b"\n") + 1, only)
        self._show(match.end(), only)
        text, self.pending = self.pending[: match.end()], self.pending[match.end() :]
        self.shown = 0
        return text.decode("utf-8", "replace")

    def _show(self, end: int, only: str) -> None:
        """Show what has come up to `end` and was not shown yet."""
        for line in self.pending[self.shown : end].decode("utf-8", "replace").splitlines():
            if line.strip() and re.search(only, line):
                show_board(line)
        self.shown = max(self.shown, end)

    def type(self, line: str) -> None:
        """Type a line and press Enter."""
        self.input.write(line.encode() + b"\n")

    def close(self) -> None:
        """Hang up."""
        self.process.terminate()
        with contextlib.suppress(OSError):
            self.input.close()
        self.process.wait(timeout=10)
        self.output.close()
        self.errors.close()


@contextlib.contextmanager
def exporter(socket: Path) -> Iterator[None]:
    """An exporter with the virtual board, from its first line of output to SIGTERM."""
    words = ["jumpstarter-exporter", "run", "--config", os.path.relpath(CONFIG), "--socket", str(socket)]
    show_command(words, background=True)
    with subprocess.Popen([BIN / words[0], *words[1:]], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                if not selector.select(timeout=COMMAND_SECONDS):
                    fail(f"the exporter said nothing for {COMMAND_SECONDS} s")
            first = process.stdout.readline()
            show(first)
            if str(socket) not in first:
                fail("the exporter did not start")
            yield
            process.send_signal(signal.SIGTERM)
            if process.wait(timeout=15):
                fail(f"the exporter ended with exit code {process.returncode}")
        finally:
            process.kill()


def demonstrate(folder: Path) -> None:
    """The main job, step by step."""
    socket = folder / "exporter.sock"
    image = folder / "hello.img"
    say("An exporter serves the boards of one host. This one has a board that needs no hardware.")
    os.environ["JUMPSTARTER_STATE_DIRECTORY"] = str(folder / "state")
    with exporter(socket):
        os.environ["JUMPSTARTER_HOST"] = str(socket)

        say("What is there?")
        run("jumpstarter", "devices", expect="rpi4")

        say(f"Flash an image of {IMAGE_MIB} MiB, made for this demo.")
        made = make_image(image, "hello", "1.0", IMAGE_MIB * MIB)
        run("jumpstarter", "storage", "flash", "rpi4", str(image), expect="verified")

        say("Switch the board on and wait for its login prompt.")
        console = Console("jumpstarter", "serial", "pipe", "rpi4")
        try:
            run("jumpstarter", "power", "on", "rpi4")
            log = console.expect(rb"login: ", nudge=b"\n")
            if "Loading image" in log and made.digest[:12] not in log:
                fail("the board booted another image than the one flashed")

            say("Log in and run a command.")
            console.type("root")
            console.expect(rb"# ")
            console.type("cat /etc/os-release; uname -a; echo status=$?")
            output = console.expect(rb"status=0\r\n# ")
            if made.digest not in output:
                fail("the board runs another image than the one flashed")

            say("Power-cycle it.")
            run("jumpstarter", "power", "cycle", "rpi4", "--wait", "0.2")
            booted = console.expect(rb"login: ", nudge=b"\n", only="^U-Boot SPL|^Loading|login:")
            if "Starting kernel" not in booted:
                fail("the board did not boot again")
        finally:
            console.close()
        run("jumpstarter", "power", "off", "rpi4")

        say("The exporter has recorded all that the console said. When did the kernel start?")
        log = run("jumpstarter", "serial", "log", "rpi4", "--grep", "Starting kernel", "--timestamps")
        if log.count("Starting kernel") < 2:
            fail("the recording should have two boots")

        say("The same as a test, in YAML: it flashes, boots, logs in, looks, and cleans up.")
        words = ["--set", f"image={image}", "--results", str(folder / "results")]
        run("jumpstarter", "test", os.path.relpath(TEST), *words, expect="1 passed")
        [summary] = (folder / "results").glob("*/*/summary.txt")
        say("What is left of that run, beside the console's log:")
        show(summary.read_text())


def main() -> None:
    """Run the demo in a folder of its own."""
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="jumpstarter-demo-"))
    try:
        demonstrate(folder)
    finally:
        shutil.rmtree(folder)
    say(f"All of that worked, in {time.monotonic() - started:.0f} s. What to try next:")
    config = os.path.relpath(CONFIG)
    activate = os.path.relpath(BIN / "activate")
    print(f"""
  . {activate}
  jumpstarter-exporter run --config {config} &
  jumpstarter devices
  jumpstarter serial start-console rpi4     # leave with Ctrl-B three times, Ctrl-] h for more
  python -m jumpstarter_drivers.virtual.image hello.img --name hello && jumpstarter test docs/examples/boot.yaml
  jumpstarter shell                         # then: j rpi4 power on

  Your own board: copy {config}, put your power switch, serial port and
  SD card multiplexer in, and `jumpstarter-exporter check` it.
""")


if __name__ == "__main__":
    main()
