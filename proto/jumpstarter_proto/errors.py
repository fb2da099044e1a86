"""The two roots of every exception that this project raises on purpose.

What a person did, or what happened to their board, is a `JumpstarterError`: one sentence that says what is wrong
and what to do next, an exit code for commands, and the gRPC status it becomes when it leaves a handler. A mistake
in code that uses this project is a `JumpstarterUsageError`; it keeps its traceback.
"""

from __future__ import annotations

import enum
from typing import ClassVar

__all__ = ["ExitCode", "JumpstarterError", "JumpstarterUsageError"]


class ExitCode(enum.IntEnum):
    """What a command's exit status means; docs/exit-codes.md says it to users."""

    OK = 0
    FAILED = 1
    """The board or the driver refused or failed."""
    USAGE = 2
    """The command line or a configuration file is wrong."""
    NOT_FOUND = 3
    """No such device, interface, file, exporter or lease."""
    UNAVAILABLE = 4
    """The exporter, controller or device cannot be reached."""
    DENIED = 5
    """Credentials are missing, wrong or not enough."""
    TIMEOUT = 6
    SKIPPED = 7
    """All tests were skipped: the hardware has not what they require."""
    LEASE_ENDED = 8
    """The lease of the board ended, was released or transferred during the operation."""
    INTERRUPTED = 130
    """Ctrl-C."""


class JumpstarterError(Exception):
    """Something a user can act on: the message names the cause and ends with the next step."""

    status: ClassVar[str] = "UNKNOWN"
    """Name of the gRPC status that carries this error to a peer."""
    exit_code: ExitCode = ExitCode.FAILED


class JumpstarterUsageError(Exception):
    """A mistake in the code that calls this project, never in what its user typed."""
