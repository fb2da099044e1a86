"""`jumpstarter serial run`: what its arguments mean and where its output goes."""

from __future__ import annotations

import getpass
import os
import shlex
import sys
from pathlib import Path

from jumpstarter_proto.errors import ExitCode, JumpstarterError

from jumpstarter_drivers.serial.terminal import write_all

__all__ = ["PASSWORD_VARIABLE", "RunUsageError", "line_of", "new_password_of", "password_of", "show_output"]

PASSWORD_VARIABLE = "JUMPSTARTER_CONSOLE_PASSWORD"  # noqa: S105 - a name, not a password
NEW_PASSWORD_VARIABLE = "JUMPSTARTER_CONSOLE_NEW_PASSWORD"  # noqa: S105 - the same


class RunUsageError(JumpstarterError):
    """Arguments of `run` that make no sense."""

    status = "INVALID_ARGUMENT"
    exit_code = ExitCode.USAGE


def line_of(command: tuple[str, ...]) -> str:
    """Return the command line for the board's shell: one word as it is, several words quoted."""
    if not any(word.strip() for word in command):
        raise RunUsageError("run needs a command, such as: jumpstarter serial run rpi4 -- uname -a")
    return command[0] if len(command) == 1 else shlex.join(command)


def password_of(file: Path | None, ask: bool) -> str | None:
    """The password, which never stands in a command line, where every user of the host would see it."""
    if file is not None and ask:
        raise RunUsageError("--password-file and --ask-password do not go together; leave one out")
    if ask:
        if not sys.stdin.isatty():
            raise RunUsageError("--ask-password needs a terminal; use --password-file")
        return getpass.getpass("Password on the board: ", stream=sys.stderr)
    return _secret(file, PASSWORD_VARIABLE)


def new_password_of(file: Path | None) -> str | None:
    """The password for a board that wants a new one."""
    return _secret(file, NEW_PASSWORD_VARIABLE)


def _secret(file: Path | None, variable: str) -> str | None:
    if file is None:
        return os.environ.get(variable)
    try:
        text = file.read_text()
    except OSError as error:
        raise RunUsageError(f"cannot read {file}: {error.strerror}; name a file with the password") from error
    return text.split("\n", 1)[0].rstrip("\r")


async def show_output(output: str, kernel: str) -> None:
    """Write output to stdout and kernel messages to stderr, as they come."""
    if kernel:
        await write_all(sys.stderr.fileno(), kernel.encode())
    if output:
        await write_all(sys.stdout.fileno(), output.encode())
