"""The commands `jumpstarter` and `j`. Modules are imported when they are needed, as users wait for the prompt."""

from __future__ import annotations

__all__ = ["j", "main"]


def main() -> None:
    """Run the command `jumpstarter` and exit with a documented exit code."""
    _defer_imports()
    from jumpstarter_client.cli.entry import run, start  # noqa: PLC0415 - so that completion loads nothing else

    run(start)


def j() -> None:
    """Run the command `j`: the device tree as commands, inside `jumpstarter shell`."""
    _defer_imports()
    from jumpstarter_client.cli.entry import run, start_j  # noqa: PLC0415

    run(start_j)


def _defer_imports() -> None:
    """Defer imports before anything else is imported."""
    from jumpstarter_proto.deferred_imports import defer_imports  # noqa: PLC0415

    defer_imports()
