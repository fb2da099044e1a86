"""A program's standard streams when its caller closed them, or when what is behind them is full or gone.

Each program runs its command in `run_guarded`. In it an error of standard output is a `StandardOutputError`, which
nothing takes for the network's, and standard error never fails: nobody could be told.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from jumpstarter_proto.terminal import print_error_line

__all__ = ["StandardOutputError", "contains_output_error", "run_guarded", "write_some"]

UNREAD = 141
"""As of a program that SIGPIPE ends: whoever read its output has seen enough."""
FAILED = 1
OUTPUT = 1


class StandardOutputError(Exception):
    """Standard output cannot be written, or nobody reads it any more; from then on what is written is dropped.

    It ends a command, and `run_guarded` explains it.
    """


class _Output(io.FileIO):
    """Standard output, which says once that it cannot be written, and then drops what comes."""

    fault: OSError | None = None

    def write(self, data: Any, /) -> int:
        if self.fault is None:
            try:
                return super().write(data)
            except OSError as error:
                self.fault = error
                raise StandardOutputError(error.strerror) from error
        return memoryview(data).nbytes


class _ErrorOutput(io.FileIO):
    """Standard error, which drops what cannot be written."""

    used = False

    def write(self, data: Any, /) -> int:
        self.used = True
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


_output: _Output | None = None
_error_output: _ErrorOutput | None = None


def run_guarded(command: Callable[[], int | None], program: str) -> int:
    """Run a command with streams that behave as above. Returns the exit code for the process.

    It is the command's own, also one that it gave to `sys.exit`, unless that is 0 and its output was lost. A sentence
    says then why it was, unless the command has said something itself, or whoever read the output has seen enough.
    """
    _guard_streams()
    try:
        code = int(command() or 0)
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            raise
        code = end.code or 0
    except BaseException as error:
        if not contains_output_error(error):
            raise
        code = 0
    finally:
        with suppress(StandardOutputError):
            sys.stdout.flush()
    return _with_output(code, program)


def _guard_streams() -> None:
    """Put streams in the place of the process's own that behave as above; those that tests put there stay.

    What the caller closed is opened: the next file would get its number. Standard input is empty then, and standard
    output can be written as little as before.
    """
    global _output, _error_output  # noqa: PLW0603 - a process has one of each
    for number, name, flags in (
        (0, "stdin", os.O_RDONLY),
        (1, "stdout", os.O_RDONLY),
        (2, "stderr", os.O_WRONLY),
    ):
        stream = getattr(sys, name)
        if stream is None:
            _open_closed(number, flags)
        elif stream is not getattr(sys, f"__{name}__"):
            continue
        if number == 0:
            guarded = stream or open(number, closefd=False)  # noqa: SIM115 - for the process's life
        elif number == OUTPUT:
            _output = _Output(number, "w", closefd=False)
            guarded = _like(stream, _output, "strict")
        else:
            _error_output = _ErrorOutput(number, "w", closefd=False)
            guarded = _like(stream, _error_output, "backslashreplace")
        setattr(sys, name, guarded)
        setattr(sys, f"__{name}__", guarded)


def _with_output(code: int, program: str) -> int:
    fault = None if _output is None else _output.fault
    if fault is None or (code and _error_output is not None and _error_output.used):
        return code
    if fault.errno == errno.EPIPE:
        return code or UNREAD
    if fault.errno == errno.EBADF:
        print_error_line(f"{program}: standard output is closed; send it somewhere, or to /dev/null")
    else:
        print_error_line(
            f"{program}: standard output cannot be written: {fault.strerror}; "
            "free space where it goes, or send it elsewhere"
        )
    return code or FAILED


def contains_output_error(error: BaseException) -> bool:
    """Whether it is, or one of a group is, that output cannot be written: `run_guarded` says all about it."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(StandardOutputError) is not None
    return isinstance(error, StandardOutputError)


def write_some(number: int, data: bytes | memoryview) -> int:
    """As `os.write`, to a file or to standard output, whose errors are a StandardOutputError. How many bytes it took.

    Raises:
        StandardOutputError, OSError
    """
    return _output.write(data) if number == OUTPUT and _output is not None else os.write(number, data)


def _open_closed(number: int, flags: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, flags)
        if null != number:
            os.dup2(null, number)
            os.close(null)


def _like(stream: Any, raw: io.FileIO, errors: str) -> io.TextIOWrapper:
    """A text stream with the properties of the interpreter's own."""
    unbuffered = stream is not None and isinstance(stream.buffer, io.RawIOBase)
    return io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),
        encoding=None if stream is None else stream.encoding,
        errors=errors if stream is None else stream.errors,
        newline="\n",
        line_buffering=stream is None or stream.line_buffering,
        write_through=stream is not None and stream.write_through,
    )
