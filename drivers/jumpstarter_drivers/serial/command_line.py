"""`jumpstarter serial run`: what its arguments mean and what its result prints."""

from __future__ import annotations

import getpass
import os
import shlex
import sys
from pathlib import Path

from jumpstarter_client.console import Result
from jumpstarter_proto.errors import ExitCode, JumpstarterError

__all__ = ["PASSWORD_VARIABLE", "RunUsageError", "line_of", "password_of", "report"]

PASSWORD_VARIABLE = "JUMPSTARTER_CONSOLE_PASSWORD"  # noqa: S105 - a name, not a password


class RunUsageError(JumpstarterError):
    """Arguments of `run` that make no sense."""

    status = "INVALID_ARGUMENT"
    exit_code = ExitCode.USAGE


def line_of(command: tuple[str, ...]) -> str:
    """The line for the board's shell: a single word is one, several are quoted to stay what they are."""
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
    if file is None:
        return os.environ.get(PASSWORD_VARIABLE)
    try:
        text = file.read_text()
    except OSError as error:
        raise RunUsageError(f"cannot read {file}: {error.strerror}; name a file with the password") from error
    return text.split("\n", 1)[0].rstrip("\r")


def report(result: Result) -> None:
    """Print a result and end the process with its exit code."""
    sys.stderr.write(result.kernel)
    if result.dropped:
        sys.stderr.write(f"[jumpstarter: the first {result.dropped} bytes of the output are missing]\n")
    sys.stdout.write(result.output)
    sys.stdout.flush()
    if result.exit_code:
        raise SystemExit(result.exit_code)
