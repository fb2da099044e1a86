"""Runs one hook: a program on a pseudo-terminal, in a session of its own, with the exporter in its environment."""

from __future__ import annotations

import contextlib
import logging
import os
import pty
import shlex
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import trio

from jumpstarter_exporter.config.model import Hook

__all__ = ["KILL_SECONDS", "command_of", "environment_of", "is_in_hook", "kill_hooks", "run_hook"]

KILL_SECONDS = 5.0
"""From SIGTERM to SIGKILL after a hook's time limit."""
DRAIN_SECONDS = 0.5
"""A hook's last output arrives within this time; a process that still holds the terminal then is not part of the
hook."""
LINE_BYTES = 4096
SHEBANG_BYTES = 256
"""Characters of a script's first line; the kernel reads no more."""
GUARD = (
    # Not a child of the hook; it stays alive when the hook is asked to end, which may take time.
    "exec 3<&0; ( trap '' HUP INT TERM; ( read -r _ <&3 || kill -KILL 0 ) >/dev/null 2>&1 & )"
    ' ; exec "$@" <&1 3<&-'
)
"""For the shell that becomes the hook: whatever is left of the process group ends with the exporter's process, also
when that is killed, for its next process runs the hook again. A line on stdin says that the hook is over.
"""
_CHUNK = 4096
LINES_AT_ONCE = 64
"""A hook that floods its terminal leaves the loop to others behind so many, and between two chunks."""

_running: set[int] = set()
"""The process groups of hooks that run in this process."""


def command_of(hook: Hook) -> list[str]:
    """The program and its arguments: a script of one line that names a file is that file.

    Its interpreter is `exec`, else what its first line says after `#!`, else Python for `.py` and the shell.
    """
    script = hook.script.strip()
    words = script.splitlines()
    if len(words) == 1 and Path(script).is_file():
        if hook.exec:
            return [*shlex.split(hook.exec), script]
        return [*(_shebang(script) or [sys.executable if script.endswith(".py") else "/bin/sh"]), script]
    return [*shlex.split(hook.exec or "/bin/sh"), "-c", hook.script]


def _shebang(script: str) -> list[str]:
    """As the kernel reads it: an interpreter and at most one argument. The file need not be executable."""
    try:
        with Path(script).open("rb") as file:
            line = file.readline(SHEBANG_BYTES)
    except OSError:
        return []  # running it reports why it cannot be read
    if not line.startswith(b"#!"):
        return []
    return [os.fsdecode(word) for word in line[2:].strip().split(maxsplit=1)]


def environment_of(
    own: Mapping[str, str], *, host: str, lease: str, client: str, motd: Path | None, board: str = ""
) -> dict[str, str]:
    """The exporter's environment, with what a hook needs to use the devices of `board` at `host`."""
    environment = dict(own)
    environment.pop("PS1", None)
    scripts = str(Path(sys.executable).parent)
    environment |= {
        "JUMPSTARTER_HOST": host,
        "JMP_DRIVERS_ALLOW": "UNSAFE",
        "LEASE_NAME": lease,
        "CLIENT_NAME": client,
        "TERM": "dumb",
        "DEBIAN_FRONTEND": "noninteractive",
        "GIT_TERMINAL_PROMPT": "0",
        # `j` of the same installation is found, unless the lab has another one.
        "PATH": f"{own.get('PATH', os.defpath)}:{scripts}",
    }
    if board:
        environment["JUMPSTARTER_BOARD"] = board
    if motd is not None:
        environment["JMP_MOTD_FILE"] = str(motd)
    return environment


async def run_hook(hook: Hook, environment: Mapping[str, str], logger: logging.Logger) -> str:
    """Run it to its end; its output goes to `logger`, line by line as it comes. Returns why it failed, or nothing.

    When its time is over, or this is cancelled, the hook and all that it started and that has not left its process
    group get SIGTERM, and SIGKILL after `KILL_SECONDS`. They get SIGKILL when this process is killed.
    """
    command = command_of(hook)
    if shutil.which(command[0], path=environment.get("PATH")) is None:
        return f"Hook could not be started: there is no program {command[0]}"
    try:
        ours, theirs, heard, alive = _opened()
    except OSError as error:  # for example if too many files are open
        return f"Hook could not be started: {error}"
    os.set_blocking(ours, False)
    try:
        try:
            process = await trio.lowlevel.open_process(
                ["/bin/sh", "-c", GUARD, "sh", *command],
                stdin=heard,
                stdout=theirs,
                stderr=theirs,
                env=dict(environment),
                start_new_session=True,
            )
        except OSError as error:
            return f"Hook could not be started: {error}"
        finally:
            os.close(theirs)
            os.close(heard)
        _running.add(process.pid)
        try:
            return await _to_its_end(process, hook.timeout, ours, logger)
        finally:
            _running.discard(process.pid)
            with contextlib.suppress(BrokenPipeError):
                os.write(alive, b"\n")
    finally:
        os.close(alive)
        os.close(ours)


def _opened() -> tuple[int, int, int, int]:
    """Both ends of a terminal, and of the pipe by which the guard detects our end. OSError leaves none open."""
    terminal = pty.openpty()
    try:
        return (*terminal, *os.pipe())
    except OSError:
        for descriptor in terminal:
            os.close(descriptor)
        raise


def kill_hooks() -> None:
    """Send SIGKILL to all running hooks and what they started: for a process that ends at once."""
    for group in tuple(_running):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def is_in_hook(process: int | None) -> bool:
    """Whether a process is a hook that runs here, or was started by one and is still in its session."""
    if not process:
        return False
    try:
        return os.getsid(process) in _running
    except OSError:  # it has ended, or is not visible
        return False


async def _to_its_end(process: trio.Process, timeout: float, terminal: int, logger: logging.Logger) -> str:
    lines = _Lines(logger)
    reading, is_left = trio.CancelScope(shield=True), trio.Event()

    async def read() -> None:
        with reading:
            await _read(terminal, lines)
        is_left.set()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            limit = trio.move_on_after(timeout)
            try:
                with limit:
                    await process.wait()
            finally:
                if limit.cancelled_caught or process.returncode is None:
                    with trio.CancelScope(shield=True):
                        await _kill(process, is_left)
                reading.deadline = trio.current_time() + DRAIN_SECONDS
    finally:
        lines.end()
    if limit.cancelled_caught:
        return f"Hook timed out after {timeout:g} seconds"
    return _failure(process.returncode)


def _failure(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:  # a real-time signal has no name
            name = f"signal {-code}"
        return f"Hook was killed from outside, by {name}"
    return f"Hook failed with exit code {code}" if code else ""


async def _kill(process: trio.Process, is_left: trio.Event) -> None:
    """Its whole group is asked to end, and has the time for it until nobody uses the hook's terminal any more.

    A shell mostly ends at once, and what it runs, as a program that writes to the board, has to put that in order.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with trio.move_on_after(KILL_SECONDS):
        await process.wait()
        await is_left.wait()
    # Including processes without the terminal that did not end with the others.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with trio.move_on_after(KILL_SECONDS):
        await process.wait()


async def _read(terminal: int, lines: _Lines) -> None:
    while True:
        await trio.lowlevel.wait_readable(terminal)
        try:
            data = os.read(terminal, _CHUNK)
        except BlockingIOError:
            continue
        except OSError:
            return  # EIO: the other end is closed
        if not data:
            return
        for number, line in enumerate(lines.whole(data), start=1):
            lines.say(line)
            if number % LINES_AT_ONCE == 0:
                await (
                    trio.lowlevel.cancel_shielded_checkpoint()
                )  # output that was read is logged, however late


class _Lines:
    """Makes log entries of output."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._begun = b""

    def whole(self, data: bytes) -> list[bytes]:
        """The complete lines, and parts of lines that are too long."""
        *whole, self._begun = (self._begun + data).split(b"\n")
        while len(self._begun) > LINE_BYTES:
            whole.append(self._begun[:LINE_BYTES])
            self._begun = self._begun[LINE_BYTES:]
        return whole

    def end(self) -> None:
        if self._begun:
            self.say(self._begun)
        self._begun = b""

    def say(self, line: bytes) -> None:
        for start in range(0, max(len(line), 1), LINE_BYTES):
            self._logger.info("%s", line[start : start + LINE_BYTES].decode("utf-8", "replace").rstrip("\r"))
