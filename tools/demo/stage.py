"""The output of the demo: explanations, commands as typed, their output, and services in the background."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NoReturn

BIN = Path(sys.executable).parent
COMMAND_SECONDS = 90
BOOT_SECONDS = 60

TERMINAL = sys.stdout.isatty() and "NO_COLOR" not in os.environ


_short: dict[str, str] = {}


def abbreviate(text: str, short: str) -> None:
    """Show this text shortened from now on; commands still get the complete text."""
    _short[text] = short


def _shortened(text: str) -> str:
    for long, short in _short.items():
        text = text.replace(long, short)
    return text


def styled(text: str, code: str) -> str:
    """Colour for a terminal, plain text for a file."""
    return f"\033[{code}m{text}\033[0m" if TERMINAL else text


def say(text: str) -> None:
    """Print an explanation of the next step."""
    print(f"\n{styled(text, '1')}", flush=True)


def show_command(words: list[str], *, background: bool = False) -> None:
    """A command as a user types it."""
    line = " ".join(_shortened(word) if word in _short else shlex.quote(_shortened(word)) for word in words)
    print(styled(f"$ {line}{' &' if background else ''}", "36"), flush=True)


def show(text: str) -> None:
    """Print output of a command or of the board."""
    for line in _shortened(text).rstrip().splitlines():
        print(f"  {line.rstrip()}", flush=True)


def show_board(line: str) -> None:
    """Print a line of the board's console."""
    print(f"  {styled('│', '2')} {line.rstrip()}", flush=True)


def fail(reason: str) -> NoReturn:
    """End the demo with an error."""
    print(styled(f"demo: {reason}", "31"), file=sys.stderr)
    raise SystemExit(1)


def run(
    *words: str, expect: str = "", typed: str | None = None, brief: bool = False, **environment: str
) -> str:
    """Run a command, show it, and check that it succeeded and that its output matches `expect`.

    `typed` is its input; `brief` hides its output.
    """
    show_command(list(words))
    try:
        # Standard error stays the terminal, for progress displays.
        done = subprocess.run(
            [BIN / words[0], *words[1:]],
            stdout=subprocess.PIPE,
            input=typed,
            env=os.environ | environment,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        fail(f"`{shlex.join(words)}` was not done after {COMMAND_SECONDS} s")
    if not brief or done.returncode:
        show(done.stdout)
    if done.returncode:
        fail(f"`{shlex.join(words)}` ended with exit code {done.returncode}")
    if not re.search(expect, done.stdout):
        fail(f"`{shlex.join(words)}` should have said {expect!r}")
    return done.stdout


def run_until(expect: str, *words: str) -> None:
    """Repeat a command until its output matches the expression; show it once, with its last output."""
    deadline = time.monotonic() + COMMAND_SECONDS
    show_command(list(words))
    while True:
        done = subprocess.run(
            [BIN / words[0], *words[1:]],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if not done.returncode and re.search(expect, done.stdout):
            return show(done.stdout)
        if time.monotonic() > deadline:
            fail(f"`{shlex.join(words)}` should say {expect!r}, and said {done.stdout}{done.stderr}")


class Output:
    """The output of a process, read as far as it is needed."""

    def __init__(self, stream: IO[bytes], name: str, errors: IO[bytes] | None = None) -> None:
        self._stream = stream
        self._name = name
        self._errors = errors
        self.pending = b""

    def more(self, deadline: float, silence: float | None = None) -> bool:
        """Whether more output has arrived before the deadline, or before so many seconds of silence."""
        left = max(0.0, deadline - time.monotonic())
        with selectors.DefaultSelector() as selector:
            selector.register(self._stream, selectors.EVENT_READ)
            if not selector.select(timeout=left if silence is None else min(silence, left)):
                return False
        data = os.read(self._stream.fileno(), 65536)
        if not data:
            words = self._errors.read() if self._errors else self.pending[-500:]
            fail(f"{self._name} ended before it said what it should: {words.decode('utf-8', 'replace')}")
        self.pending += data
        return True

    def line(self, pattern: str, seconds: float = COMMAND_SECONDS) -> str:
        """Return all lines up to the first that matches the expression."""
        deadline = time.monotonic() + seconds
        while not (match := re.search(rf"(?m)^.*({pattern}).*\n".encode(), self.pending)):
            if not self.more(deadline):
                fail(f"{self._name} did not say {pattern!r} in {seconds:.0f} s, only {self.pending[-500:]!r}")
        text, self.pending = self.pending[: match.end()], self.pending[match.end() :]
        return text.decode("utf-8", "replace")


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
        self.input: IO[bytes] = self.process.stdin
        self._output = Output(self.process.stdout, "the console", self.process.stderr)
        self._shown = 0

    def expect(self, pattern: bytes, *, nudge: bytes = b"", only: str = "") -> str:
        """Everything up to `pattern`, shown line by line as it comes.

        `nudge` is typed when the board is silent, as a person would; `only` picks the lines to show.
        """
        output = self._output
        deadline = time.monotonic() + BOOT_SECONDS
        while not (match := re.search(pattern, output.pending)):
            if not output.more(deadline, silence=3.0):
                if time.monotonic() >= deadline:
                    fail(f"the board did not say {pattern!r} in {BOOT_SECONDS} s: {output.pending[-500:]!r}")
                self.input.write(nudge)
            self._show(output.pending.rfind(b"\n") + 1, only)
        self._show(match.end(), only)
        text, output.pending = output.pending[: match.end()], output.pending[match.end() :]
        self._shown = 0
        return text.decode("utf-8", "replace")

    def _show(self, end: int, only: str) -> None:
        """Show the new output up to `end`."""
        for line in self._output.pending[self._shown : end].decode("utf-8", "replace").splitlines():
            if line.strip() and re.search(only, line):
                show_board(line)
        self._shown = max(self._shown, end)

    def type(self, line: str) -> None:
        """Type a line and press Enter."""
        self.input.write(line.encode() + b"\n")

    def close(self) -> None:
        """Hang up."""
        self.process.terminate()
        with contextlib.suppress(OSError):
            self.input.close()
        self.process.wait(timeout=30)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


@contextlib.contextmanager
def background(*words: str, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], Output]]:
    """Run a command in the background and read both its streams; kill it at the end of the block."""
    show_command(list(words), background=True)
    with subprocess.Popen(
        [BIN / words[0], *words[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | environment,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, Output(process.stdout, words[0])
        finally:
            process.kill()


@contextlib.contextmanager
def service(*words: str, ready: str, **environment: str) -> Iterator[str]:
    """Run a service until the end of the block, then send SIGTERM. Returns its output up to the line with `ready`."""
    with background(*words, **environment) as (process, output):
        said = output.line(ready)
        show(said)
        yield said
        process.send_signal(signal.SIGTERM)
        if process.wait(timeout=30):
            fail(f"`{shlex.join(words)}` ended with exit code {process.returncode}")
