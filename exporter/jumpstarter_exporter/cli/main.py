"""Starts a command or the daemon."""

from __future__ import annotations

import sys
from typing import Any

from jumpstarter_proto.deferred_imports import defer_imports

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its code."""
    defer_imports()
    from jumpstarter_proto.daemon_program import run_program  # noqa: PLC0415 - imports are deferred before it

    from jumpstarter_exporter.cli.program import PROGRAM  # noqa: PLC0415 - as above

    arguments = sys.argv[1:] if arguments is None else arguments
    run_program(PROGRAM, arguments, _command, _daemon, is_daemon=arguments[:1] == ["run"], extra="exporter")


def _command(arguments: list[str]) -> int | dict[str, Any]:
    from jumpstarter_proto.usage_errors import run_app  # noqa: PLC0415 - the daemon does not load it

    from jumpstarter_exporter.cli.commands import app  # noqa: PLC0415 - as above

    return run_app(app, arguments)


def _daemon(**options: Any) -> int:
    from jumpstarter_exporter.cli.run import run_daemon  # noqa: PLC0415 - no other command needs it

    return run_daemon(**options)
