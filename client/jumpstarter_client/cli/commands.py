"""The table of commands. A command's module is imported when the command runs, because users wait for the prompt.

Dispatch, the list in `jumpstarter --help` and completion follow from this table.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.page_width import print_page

if TYPE_CHECKING:
    from jumpstarter_client.cli.options import GlobalOptions

__all__ = ["COMMANDS", "INTERNAL_COMMANDS", "KUBECTL_NOUNS", "CommandEntry", "canonical"]


class CommandEntry(NamedTuple):
    """One command, and where its function is."""

    module: str
    """Below `jumpstarter_client.cli`."""
    function: str
    summary: str = ""
    """For the list of commands."""
    words: tuple[str, ...] = ()
    """What completion offers as the next word."""
    least_arguments: int = 0
    """With fewer arguments the help is printed, and the exit code is USAGE."""
    has_help: bool = True
    """Its help is in `help_texts`; otherwise the command prints it."""

    def run(self, arguments: list[str], options: GlobalOptions) -> int | None:
        """Print the help if it is requested; otherwise import the command and run it. Returns the exit code."""
        own = (
            arguments[:1] if self.function == "shell" else arguments
        )  # after that, words belong to the shell's command
        is_help = any(word in ("-h", "--help") for word in own)
        if self.has_help and (is_help or len(arguments) < self.least_arguments):
            help_texts = importlib.import_module("jumpstarter_client.cli.help_texts")
            print_page(help_texts.HELP[self.function])
            return ExitCode.OK if is_help else ExitCode.USAGE
        module = importlib.import_module(f"jumpstarter_client.cli.{self.module}")
        code: int | None = getattr(module, self.function)(arguments, options)
        return code


COMMANDS = {
    "devices": CommandEntry("devices", "devices", "list the devices of the exporter with their states"),
    "shell": CommandEntry(
        "shell", "shell", "start a shell, or run a command, that is connected to the exporter"
    ),
    "test": CommandEntry("test", "test", "run tests that are written in YAML", least_arguments=1),
    "call": CommandEntry("call", "call", "call a method of any device by its name", least_arguments=1),
    "exporters": CommandEntry(
        "exporters", "exporters", "list the boards of a controller and who uses them", ("show",)
    ),
    "lease": CommandEntry(
        "lease",
        "lease",
        "keep a board of a controller for longer than one command",
        ("create", "list", "show", "extend", "transfer", "release"),
        least_arguments=1,
    ),
    "login": CommandEntry("login", "login", "log in to a controller"),
    "auth": CommandEntry(
        "auth", "auth", "show or replace your token for a controller", ("status", "rotate", "refresh"), 1
    ),
    "config": CommandEntry("config", "config", "manage the configurations of controllers", ("client",), 2),
    "completion": CommandEntry(
        "completion",
        "completion",
        "print completion for bash, zsh or fish",
        ("bash", "zsh", "fish"),
        has_help=False,
    ),
    "driver": CommandEntry(
        "driver",
        "driver",
        "create a Python package for your own driver, or list drivers",
        ("new", "list"),
        least_arguments=1,
    ),
    "jmp": CommandEntry(
        "jmp", "jmp", "install a script `jmp` for users of Jumpstarter's own client", ("install",), 1
    ),
    "version": CommandEntry("help", "version", "print the version", has_help=False),
}
"""In the order of `jumpstarter --help`. Every other first word is the interface of a driver."""

INTERNAL_COMMANDS = {"__complete": CommandEntry("completion", "complete", has_help=False)}
"""Called by the scripts of `jumpstarter completion`."""

_ALIASES = {"leases": "lease", "l": "lease", "exporter": "exporters", "e": "exporters", "conf": "config"}
_KUBECTL_ALIASES: dict[str, dict[str, tuple[str, ...]]] = {
    "create": {"lease": ("lease", "create")},
    "get": {"lease": ("lease", "list"), "exporters": ("exporters",)},
    "update": {"lease": ("lease", "update")},
    "delete": {"lease": ("lease", "release")},
}
"""`jumpstarter create lease`: the order of words in Jumpstarter's own client."""
KUBECTL_NOUNS = {
    "create": ("lease",),
    "get": ("exporters", "leases"),
    "update": ("lease",),
    "delete": ("leases",),
}
"""What completion offers after each of these."""


def canonical(arguments: list[str]) -> list[str]:
    """Return the words with the command's own name first."""
    word, *rest = arguments
    if word in _KUBECTL_ALIASES and rest:
        noun = _ALIASES.get(rest[0], rest[0])
        if noun in _KUBECTL_ALIASES[word]:
            return [*_KUBECTL_ALIASES[word][noun], *rest[1:]]
    return [_ALIASES.get(word, word), *rest]
