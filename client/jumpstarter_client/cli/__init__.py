"""The commands `jumpstarter` and `j`. Everything is loaded when it is needed: somebody waits for the prompt."""

from __future__ import annotations

__all__ = ["j", "main"]


def main() -> None:
    """The command `jumpstarter`; ends the process with a documented exit code."""
    _defer_imports()
    from jumpstarter_client.cli.entry import run, start  # noqa: PLC0415 - so that completion loads nothing else

    run(start)


def j() -> None:
    """The command `j`: the device tree as commands, inside of `jumpstarter shell`."""
    _defer_imports()
    from jumpstarter_client.cli.entry import run, start_j  # noqa: PLC0415

    run(start_j)


def _defer_imports() -> None:
    """First of all, as the entry imports much itself."""
    from jumpstarter_proto.deferred_imports import defer_imports  # noqa: PLC0415

    defer_imports()
