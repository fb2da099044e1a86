"""Secrets that a user brings: typed, piped, in a file or a variable; never on a command line, which all can read."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from jumpstarter_proto.errors import ExitCode, JumpstarterError

__all__ = ["SecretError", "read_secret"]

MAX_SECRET_BYTES = 64 * 1024


class SecretError(JumpstarterError):
    """The secret that is needed was not given."""

    exit_code = ExitCode.USAGE


def read_secret(what: str, *, file: Path | None, variable: str, hidden: bool = True) -> str:
    """One line: of `file`, else the environment's, else typed at a terminal, else from stdin.

    `what` names it in the question and in errors. What is typed is shown unless `hidden`.

    Raises:
        SecretError: no secret was given.
    """
    if file is not None:
        return _checked(what, _first_line(what, file), str(file))
    if variable in os.environ:
        return _checked(what, os.environ[variable], f"${variable}")
    if sys.stdin.isatty():
        return _checked(what, _typed(what, hidden=hidden), "the answer")
    return _checked(what, sys.stdin.readline(MAX_SECRET_BYTES), "stdin")


def _first_line(what: str, file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as stream:
            return stream.readline(MAX_SECRET_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SecretError(f"the {what} in {file} cannot be read: {reason}; check the path") from None


def _typed(what: str, *, hidden: bool) -> str:
    question = f"{what[0].upper()}{what[1:]}: "
    if hidden:
        import getpass  # noqa: PLC0415 - only who is asked pays

        return getpass.getpass(question)
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline(MAX_SECRET_BYTES)


def _checked(what: str, text: str, where: str) -> str:
    text = text.strip()
    if not text:
        raise SecretError(
            f"there is no {what} in {where}; type it, send it on standard input, or give a file that contains it"
        )
    if not all(" " < character <= "~" for character in text):
        raise SecretError(f"the {what} in {where} has characters that none has; copy it again")
    return text
