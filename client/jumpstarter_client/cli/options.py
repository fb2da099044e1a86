"""Options that every command has, and the words of those that are wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jumpstarter_proto.errors import ExitCode, JumpstarterError

__all__ = ["ArgumentsError", "Options", "UnknownDeviceError", "UsageError", "nearest", "split", "take_output"]

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
FORMATS = ("json", "yaml", "name")


class UsageError(JumpstarterError):
    """The command line is wrong."""

    status = "INVALID_ARGUMENT"
    exit_code = ExitCode.USAGE


class ArgumentsError(UsageError):
    """A verb's arguments do not fit its signature."""


class UnknownDeviceError(JumpstarterError):
    """No device has that name."""

    status = "NOT_FOUND"
    exit_code = ExitCode.NOT_FOUND


@dataclass
class Options:
    """What was said about where to connect and what to print."""

    host: str | None = None
    config: str | None = None
    log_level: str = "warning"
    exporter_logs: bool = False
    output: str | None = None

    def apply(self) -> None:
        """Set up logging, if there is anything to set up."""
        if self.log_level != "warning":
            import logging  # noqa: PLC0415 - the default needs none of it

            logging.basicConfig(level=self.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")


_VALUED = {
    "--host": "host",
    "--socket": "host",
    "--config": "config",
    "--exporter-config": "config",
    "--exporter": "config",
    "--log-level": "log_level",
}
_EXAMPLES = {"host": "/run/jumpstarter/exporter.sock", "config": "rpi4.yaml", "log_level": "debug"}


def split(arguments: list[str]) -> tuple[Options, list[str]]:
    """Take the options of every command out, wherever they are in front of a `--`; leave the rest in order.

    `-o` is left: it means a file to some verbs (see `take_output`).

    Raises:
        UsageError: an option without its value, or a log level that there is not.
    """
    options, rest = Options(), []
    words = iter(arguments)
    for word in words:
        if word == "--":
            rest += [word, *words]
            break
        name, equals, value = word.partition("=")
        if name in _VALUED:
            if not equals:
                value = next(words, "")
            if not value:
                raise UsageError(f"{name} needs a value; for example {name} {_EXAMPLES[_VALUED[name]]}")
            setattr(options, _VALUED[name], value)
        elif word == "--exporter-logs":
            options.exporter_logs = True
        else:
            rest.append(word)
    options.log_level = options.log_level.lower()
    if options.host and options.config:
        raise UsageError("--host names an exporter that runs, --config starts another; use one of them")
    if options.log_level not in LOG_LEVELS:
        raise UsageError(f"{options.log_level!r} is no log level; use one of {', '.join(LOG_LEVELS)}")
    return options, rest


def take_output(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Take `-o json|yaml|name` out; what stands behind `--` is not ours.

    Raises:
        UsageError: another format.
    """
    for index, word in enumerate(arguments):
        if word == "--":
            break
        name, equals, value = word.partition("=")
        if name not in ("-o", "--output"):
            continue
        end = index + 1
        if not equals:
            value = arguments[end] if end < len(arguments) else ""
            end += 1
        if value not in FORMATS:
            raise UsageError(f"{name} takes one of {', '.join(FORMATS)}, not {value!r}")
        return value, arguments[:index] + arguments[end:]
    return None, arguments


def nearest(word: str, known: Iterable[str], also: Iterable[str] = ()) -> str:
    """`; did you mean …` and what there is, for the end of a sentence.

    What is in `also` would do as well, and may be guessed, but is not listed.
    """
    import difflib  # noqa: PLC0415 - only who mistypes pays for it

    names = sorted(known)
    close = difflib.get_close_matches(word, [*also, *names], n=1)
    guess = f"; did you mean {close[0]!r}" if close else ""
    return f"{guess}; there is {', '.join(names)}" if names else guess
