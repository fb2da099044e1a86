"""`jumpstarter version`."""

from __future__ import annotations

import platform

from jumpstarter_proto.installed import installed_version
from jumpstarter_proto.terminal import print_line, print_text

from jumpstarter_client.cli.options import Options, UsageError, take_output

__all__ = ["version"]


def version(arguments: list[str], options: Options) -> int:
    """The command."""
    if any(word in ("-h", "--help") for word in arguments):
        print_text("Usage: jumpstarter version [-o json|yaml|name]\n\n  jumpstarter version -o json\n")
        return 0
    output, rest = take_output(arguments)
    if rest:
        raise UsageError(f"`version` takes no {rest[0]!r}; try `jumpstarter version`")
    number = installed_version()
    if output in ("json", "yaml"):
        from jumpstarter_client.cli.output import write_data  # noqa: PLC0415

        write_data({"version": number, "python": platform.python_version()}, output)
    elif output == "name":
        print_line(number)
    else:
        print_line(f"jumpstarter-sbc {number}, Python {platform.python_version()}")
    return 0
