"""From the command line of `jumpstarter-router` to the daemon."""

from __future__ import annotations

import sys
from typing import Any

from jumpstarter_proto.deferred_imports import defer_imports

from jumpstarter_controller.cli.command import ROUTER, LogFormat

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run it and exit with its code."""
    defer_imports()
    from jumpstarter_proto.daemon_program import run_program  # noqa: PLC0415 - imports are deferred before it

    run_program(
        ROUTER,
        sys.argv[1:] if arguments is None else arguments,
        _command,
        _daemon,
        is_daemon=True,
        extra="controller",
    )


def _command(arguments: list[str]) -> int | dict[str, Any]:
    from jumpstarter_proto.usage_errors import run_app  # noqa: PLC0415 - in the daemon nothing of it is loaded

    from jumpstarter_controller.cli.router_command import app  # noqa: PLC0415 - as above

    return run_app(app, arguments)


def _daemon(*, log_level: str, log_format: LogFormat, **settings: Any) -> int:
    import trio  # noqa: PLC0415 - whoever reads the options needs none of it

    from jumpstarter_controller.process import server_log  # noqa: PLC0415 - as above
    from jumpstarter_controller.router import process  # noqa: PLC0415 - as above

    server_log.configure(log_level, log_format)
    return trio.run(process.run, process.RouterSettings(**settings))
