"""The user's terminal as a console: raw while it lasts, and as it was afterwards, whatever ends it."""

from __future__ import annotations

import errno
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.standard_streams import write_some
from jumpstarter_proto.terminal import print_error_text

__all__ = ["CLOSED", "NotATerminalError", "raw_terminal", "read_stdin", "say", "write_all"]

CLOSED = (
    "the exporter closed the console: another user ended its streams, or the session is over; connect again"
)
_CHUNK_BYTES = 65536


class NotATerminalError(JumpstarterError):
    """A console needs a terminal at both ends."""

    status = "INVALID_ARGUMENT"
    exit_code = ExitCode.USAGE


@contextmanager
def raw_terminal() -> Iterator[None]:
    """Stdin gives each key as it is pressed, Ctrl-C too. Main thread only.

    The terminal is as it was after the block, also after SIGTERM and SIGHUP (which end the block as
    SystemExit does), but not after SIGKILL; then `reset` helps. Raises NotATerminalError.
    """
    if not sys.stdin.isatty():
        raise NotATerminalError("a console needs a terminal as its input; for scripts there is `pipe`")
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    handlers = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        tty.setraw(fd)
        yield
    finally:
        # EIO: the shell that we ran in has ended, and its terminal is another's
        with suppress(termios.error):
            termios.tcsetattr(fd, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def say(text: str) -> None:
    """A line for the user. A raw terminal does not return to the start of the line by itself."""
    print_error_text("".join(f"{line}\n" for line in text.splitlines()), raw=True)


async def read_stdin() -> bytes:
    """What was typed or piped in, b"" at its end. Cancelling takes nothing away."""
    fd = sys.stdin.fileno()
    try:
        await trio.lowlevel.wait_readable(fd)
    except PermissionError:
        await trio.lowlevel.checkpoint()  # a file, which the kernel does not wait for
    try:
        return os.read(fd, _CHUNK_BYTES)
    except OSError as error:
        if error.errno == errno.EIO:
            return b""  # the terminal is gone
        raise


async def write_all(fd: int, data: bytes) -> None:
    """Write all of it, in a thread that cancelling abandons: Ctrl-S must not stop the program."""
    await trio.to_thread.run_sync(_write, fd, data, abandon_on_cancel=True)


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[write_some(fd, rest) :]
