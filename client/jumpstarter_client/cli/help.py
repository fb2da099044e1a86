"""Help by example. Needs no exporter."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from jumpstarter_proto import driver_packages
from jumpstarter_proto.installed import installed_version
from jumpstarter_proto.terminal import print_line, print_text

from jumpstarter_client.cli.options import Options, UsageError, take_output
from jumpstarter_client.manifests import interfaces

if TYPE_CHECKING:
    from jumpstarter_client.verb import Verb

__all__ = ["print_interface_help", "print_main_help", "version"]

MAIN = """Usage: jumpstarter COMMAND [ARGUMENT ...]

Use the boards of an exporter: the one that JUMPSTARTER_HOST names, the one that runs on this machine, or one that
is started for the command from its configuration.

  jumpstarter devices                       what there is, what is ready
  jumpstarter power cycle rpi4              INTERFACE VERB [DEVICE]; the device may be left out if it is the only one
  jumpstarter serial start-console rpi4
  jumpstarter storage flash rpi4 image.img.xz
  jumpstarter test boot.yaml                a test of steps, written in YAML
  jumpstarter shell -- pytest               JUMPSTARTER_HOST is set inside, and `j` is the device tree

Commands:
  devices     list the devices
  shell       a shell, or a command, with the exporter in its environment
  test        run tests that are written in YAML
  exporters   the boards of a controller: which are free, who has the others and until when
  lease       boards of a controller for longer than a command: create, list, extend, release
  login       become a client of a controller
  auth        your token there: until when it counts, and a new one
  config      who you are to which controller
  completion  completion for bash, zsh or fish
  driver      write a package with a driver of your own, to begin with
  version     what this is

Interfaces (`jumpstarter INTERFACE --help` lists the verbs):
{interfaces}
Options of every command:
  --host HOST          an exporter's socket or HOST:PORT, instead of JUMPSTARTER_HOST
  --board NAME         one of the boards of a host that serves several, instead of JUMPSTARTER_BOARD
  --override           take part in the lease of a board of this machine that somebody has; its user is told
  --config FILE        start an exporter from this file, for this command only
  -l SELECTOR          lease a board of a controller by its labels, such as board=rpi4
  --exporter NAME      this machine's configuration of that name, else the controller's exporter of that name
  --lease NAME         use a lease that there is
  --wait-for-board     with -l or --exporter: if there is no such board yet, wait for one to appear
  --duration TIME      of the lease, such as 2h; 30m if left out
  --client FILE        who you are to the controller; a file or the name of one
  --log-level LEVEL    debug, info, warning, error or critical; debug shows where an error came from
  --exporter-logs      show the exporter's log while the command runs
  -o json|yaml|name    output for scripts, where there is any
"""


def print_main_help() -> None:
    """What `jumpstarter --help` prints."""
    print_text(MAIN.format(interfaces="".join(f"  {name}\n" for name in interfaces())))
    driver_packages.report_problems()


def print_interface_help(interface: str, known: dict[str, Verb]) -> None:
    """What `jumpstarter INTERFACE --help` prints."""
    print_line(f"Usage: jumpstarter {interface} VERB [DEVICE] [ARGUMENT ...]")
    print_line()
    if not known:
        print_line(f"{interface} has no verbs; its parts have.")
        return
    width = max(map(len, known))
    for name, verb in known.items():
        if verb.needs_device:
            print_line(f"  {name:<{width}}  {verb.help}")
    alone = {name: verb for name, verb in known.items() if not verb.needs_device}
    if alone:
        print_line()
        print_line("Without a device:")
    for name, verb in alone.items():
        print_line(f"  jumpstarter {interface} {name}  {verb.help}")
    print_line()
    print_line(f"  jumpstarter {interface} {next(iter(known))} rpi4")
    print_line(f"  jumpstarter {interface} {next(iter(known))} --help")


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
