"""Help by example. Needs no exporter."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from jumpstarter_client.manifests import interfaces

if TYPE_CHECKING:
    from jumpstarter_client.verb import Verb

__all__ = ["print_interface_help", "print_main_help"]

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
  version     what this is

Interfaces (`jumpstarter INTERFACE --help` lists the verbs):
{interfaces}
Options of every command:
  --host HOST          an exporter's socket or HOST:PORT, instead of JUMPSTARTER_HOST
  --config FILE        start an exporter from this file, for this command only
  -l SELECTOR          lease a board of a controller by its labels, such as board=rpi4
  --exporter NAME      this machine's configuration of that name, else the controller's exporter of that name
  --lease NAME         use a lease that there is
  --duration TIME      of the lease, such as 2h; 30m if left out
  --client FILE        who you are to the controller; a file or the name of one
  --log-level LEVEL    debug, info, warning, error or critical; debug shows where an error came from
  --exporter-logs      show the exporter's log while the command runs
  -o json|yaml|name    output for scripts, where there is any
"""


def print_main_help() -> None:
    """What `jumpstarter --help` prints."""
    sys.stdout.write(MAIN.format(interfaces="".join(f"  {name}\n" for name in interfaces())))


def print_interface_help(interface: str, known: dict[str, Verb]) -> None:
    """What `jumpstarter INTERFACE --help` prints."""
    out = sys.stdout.write
    out(f"Usage: jumpstarter {interface} VERB [DEVICE] [ARGUMENT ...]\n\n")
    if not known:
        out(f"{interface} has no verbs; its parts have.\n")
        return
    width = max(map(len, known))
    for name, verb in known.items():
        if verb.needs_device:
            out(f"  {name:<{width}}  {verb.help}\n")
    alone = {name: verb for name, verb in known.items() if not verb.needs_device}
    if alone:
        out("\nWithout a device:\n")
    for name, verb in alone.items():
        out(f"  jumpstarter {interface} {name}  {verb.help}\n")
    out(f"\n  jumpstarter {interface} {next(iter(known))} rpi4\n")
    out(f"  jumpstarter {interface} {next(iter(known))} --help\n")
