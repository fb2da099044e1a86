"""Parses the arguments of commands that are not verbs of drivers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jumpstarter_client.cli.options import Option
from jumpstarter_client.command_errors import UsageError, nearest

__all__ = ["Arguments", "asks_for_help", "parse_arguments"]


@dataclass
class Arguments:
    """The parsed arguments of a command."""

    words: list[str] = field(default_factory=list)
    values: dict[str, list[str]] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)

    def one(self, name: str) -> str | None:
        """Return the last value of an option, or None."""
        given = self.values.get(name)
        return given[-1] if given else None

    def pairs(self, name: str) -> dict[str, str]:
        """Return all `KEY=VALUE` values of an option. UsageError if one has another format."""
        found = {}
        for text in self.values.get(name, []):
            key, equals, value = text.partition("=")
            if not equals or not key:
                raise UsageError(f"{name} takes KEY=VALUE, not {text!r}")
            found[key] = value
        return found


def asks_for_help(arguments: list[str]) -> bool:
    """Whether `-h` or `--help` is among them."""
    return any(word in ("-h", "--help") for word in arguments)


def parse_arguments(command: str, arguments: list[str], options: Sequence[Option] = ()) -> Arguments:
    """Parse the arguments of a command by its table of options.

    Raises:
        UsageError: an option is unknown, or its value is missing.
    """
    valued = {name: option.field for option in options if option.metavar for name in option.names}
    flags = {name: option.field for option in options if not option.metavar for name in option.names}
    found = Arguments()
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if word == "--":
            found.words += words
        elif name in valued:
            if not equals:
                value = next(words, "")
            if not value:
                raise UsageError(f"{name} needs a value; `jumpstarter {command} --help` shows examples")
            found.values.setdefault(valued[name], []).append(value)
        elif word in flags:
            found.flags.add(flags[word])
        elif word.startswith("-") and word != "-":
            raise UsageError(
                f"`{command}` has no option {name}{nearest(name, [*valued, *flags])}"
                if valued or flags
                else f"`{command}` has no option {name}; `jumpstarter {command} --help` lists the options"
            )
        else:
            found.words.append(word)
    return found
