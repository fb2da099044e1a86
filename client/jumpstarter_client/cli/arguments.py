"""The options of commands that are not verbs: taken by name, with the nearest one for a name that is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jumpstarter_client.cli.options import UsageError, nearest

__all__ = ["Arguments", "asks_for_help", "take"]


@dataclass
class Arguments:
    """What was given."""

    words: list[str] = field(default_factory=list)
    values: dict[str, list[str]] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)

    def one(self, name: str) -> str | None:
        """The last value of an option."""
        given = self.values.get(name)
        return given[-1] if given else None

    def pairs(self, name: str) -> dict[str, str]:
        """All `KEY=VALUE` of an option. UsageError if one is none."""
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


def take(
    command: str, arguments: list[str], valued: Mapping[str, str] = {}, flags: Mapping[str, str] = {}
) -> Arguments:
    """Sort a command's arguments. `valued` and `flags` have each spelling of an option and the name it counts as.

    Raises:
        UsageError: an option that there is not, or one without its value.
    """
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
                else f"`{command}` has no option {name}; `jumpstarter {command} --help` shows what it has"
            )
        else:
            found.words.append(word)
    return found
