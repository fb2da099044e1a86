"""The help of `jumpstarter` and of interfaces, made from the tables of commands and options; and the version."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from jumpstarter_proto import driver_packages
from jumpstarter_proto.installed import installed_version
from jumpstarter_proto.page_width import print_page
from jumpstarter_proto.terminal import print_line

from jumpstarter_client.cli.commands import COMMANDS
from jumpstarter_client.cli.options import OPTIONS, GlobalOptions, take_output
from jumpstarter_client.command_errors import UsageError
from jumpstarter_client.manifests import summaries

if TYPE_CHECKING:
    from jumpstarter_client.verb import Verb

__all__ = ["print_interface_help", "print_main_help", "version"]

MAIN = """Usage: jumpstarter COMMAND [ARGUMENT ...]

Use the boards of an exporter: the one that JUMPSTARTER_HOST names, the daemon on this machine, or one that is started
for the command from its configuration.

  jumpstarter devices                       list the devices
  jumpstarter power cycle rpi4              INTERFACE VERB [DEVICE]; the device is optional if there is only one
  jumpstarter serial start-console rpi4
  jumpstarter storage flash rpi4 image.img.xz
  jumpstarter test boot.yaml                run a test that is written in YAML
  jumpstarter shell -- pytest               sets JUMPSTARTER_HOST for the command; `j` is the device tree

Commands:
{commands}
Interfaces (`jumpstarter INTERFACE --help` lists the verbs):
{interfaces}
Options of every command:
{options}  -o json|yaml|name    machine-readable output, where the command has one
"""


def print_main_help() -> None:
    """Print `jumpstarter --help`."""
    print_page(
        MAIN.format(
            commands="".join(f"  {name:<11} {command.summary}\n" for name, command in COMMANDS.items()),
            interfaces="".join(
                f"  {name:<11} {summary}".rstrip() + "\n" for name, summary in summaries().items()
            ),
            options="".join(f"  {option.usage:<20} {option.help}\n" for option in OPTIONS if option.help),
        )
    )
    driver_packages.report_problems()


def print_interface_help(interface: str, known: dict[str, Verb]) -> None:
    """Print `jumpstarter INTERFACE --help`."""
    lines = [f"Usage: jumpstarter {interface} VERB [DEVICE] [ARGUMENT ...]", ""]
    if not known:
        print_line(lines[0])
        print_line()
        print_line(f"{interface} has no verbs; use those of the devices below it.")
        return
    width = max(map(len, known))
    lines += [f"  {name:<{width}}  {verb.help}" for name, verb in known.items() if verb.needs_device]
    alone = {name: verb for name, verb in known.items() if not verb.needs_device}
    if alone:
        lines += ["", "Without a device:"]
    lines += [f"  jumpstarter {interface} {name}  {verb.help}" for name, verb in alone.items()]
    first = next(iter(known))
    lines += ["", f"  jumpstarter {interface} {first} rpi4", f"  jumpstarter {interface} {first} --help", ""]
    print_page("\n".join(lines))


def version(arguments: list[str], options: GlobalOptions) -> int:
    """Run `jumpstarter version`."""
    if any(word in ("-h", "--help") for word in arguments):
        print_page("Usage: jumpstarter version [-o json|yaml|name]\n\n  jumpstarter version -o json\n")
        return 0
    output, rest = take_output(arguments)
    if rest:
        raise UsageError(f"`version` takes no {rest[0]!r}; try `jumpstarter version`")
    number = installed_version()
    if output in ("json", "yaml"):
        from jumpstarter_client.cli.output import write_data  # noqa: PLC0415 - not for --help

        write_data({"version": number, "python": platform.python_version()}, output)
    elif output == "name":
        print_line(number)
    else:
        print_line(f"jumpstarter-sbc {number}, Python {platform.python_version()}")
    return 0
