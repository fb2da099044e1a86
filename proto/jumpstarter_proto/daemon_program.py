"""Runs a program that is a daemon or one of its commands. The daemon does not keep the parser of options in memory.

The libraries for command lines and their help take megabytes. So a fork parses the options, sends them to the daemon
before it has loaded its own modules, and ends.
"""

from __future__ import annotations

import logging
import marshal
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.standard_streams import run_guarded
from jumpstarter_proto.terminal import print_error_line
from jumpstarter_proto.texts import not_text

__all__ = ["Command", "run_program"]

Command = Callable[[list[str]], int | Mapping[str, Any]]
"""Runs what the arguments say and gives its exit code; where that is the daemon, it gives the daemon's options.

These are None, numbers, strings, lists of strings, and paths.
"""
_T = TypeVar("_T")
_SIGNAL_CODES = 128
"""A shell's exit code of what a signal ended is this and the signal's number."""


def run_program(
    name: str,
    arguments: list[str],
    command: Command,
    daemon: Callable[..., int],
    *,
    is_daemon: bool,
    extra: str,
) -> NoReturn:
    """Run one command, or the daemon with its options, and exit with its code: every error is one sentence.

    `is_daemon` says whether the arguments look like the daemon's, for which a fork then reads them; `extra` is the one
    with the program's libraries.
    """
    program = _Program(name, extra)

    def run() -> int:
        options = _in_fork(lambda: command(arguments), program) if is_daemon else command(arguments)
        return options if isinstance(options, int) else daemon(**options)

    sys.exit(run_guarded(lambda: _explained(run, program), name))


class _Program(NamedTuple):
    name: str
    extra: str


def _explained(work: Callable[[], _T], program: _Program) -> _T | int:
    name = program.name
    try:
        return work()
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if not library or library.startswith("jumpstarter"):
            raise
        print_error_line(
            f"{name}: the Python package {library!r} is missing; pip install 'jumpstarter-sbc[{program.extra}]'"
        )
        return ExitCode.FAILED
    except JumpstarterError as error:
        logging.getLogger(__name__).debug("the cause:", exc_info=error)
        print_error_line(f"{name}: {' '.join(str(error).split())}")
        return error.exit_code
    except UnicodeEncodeError as error:
        print_error_line(f"{name}: {not_text(error)}")
        return ExitCode.USAGE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED


def _in_fork(read: Callable[[], int | Mapping[str, Any]], program: _Program) -> int | dict[str, Any]:
    """What `read` gives in a fork of this process, which has one thread yet."""
    reader, writer = os.pipe()
    # What libraries run at a fork swallows an exception, and with it what a Ctrl-C raises there.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    child = os.fork()
    if child == 0:
        os.close(reader)
        _be_fork(read, program, writer, before)
    os.close(writer)
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        with open(reader, "rb") as pipe:
            data = pipe.read()
    finally:
        _, status = os.waitpid(child, 0)
    if data:
        options: dict[str, Any] = marshal.loads(data)  # noqa: S302 - from ourselves
        return {key: Path(*it) if isinstance(it, tuple) else it for key, it in options.items()}
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else _SIGNAL_CODES - code


def _be_fork(
    read: Callable[[], int | Mapping[str, Any]],
    program: _Program,
    writer: int,
    mask: set[signal.Signals | int],
) -> NoReturn:
    """It never comes back to what its parent was in the middle of."""

    def unmasked() -> int | Mapping[str, Any]:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            return read()
        finally:  # what follows takes a moment, and has no sentence for a Ctrl-C, which the parent gets, too
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    def run() -> int:
        options = _explained(unmasked, program)
        if isinstance(options, int):
            return options
        # A path is a tuple of its text.
        plain = {key: (str(it),) if isinstance(it, Path) else it for key, it in options.items()}
        with open(writer, "wb") as pipe:
            pipe.write(marshal.dumps(plain))
        return 0

    code = 1
    try:
        code = run_guarded(run, program.name)
    except BrokenPipeError:  # the parent was ended meanwhile
        pass
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)
