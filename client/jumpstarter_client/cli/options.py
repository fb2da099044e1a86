"""Options that every command has, and the words of those that are wrong."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.texts import shown

if TYPE_CHECKING:
    from jumpstarter_client.lease.request import LeaseRequest

__all__ = [
    "ArgumentsError",
    "Options",
    "UnknownDeviceError",
    "UsageError",
    "nearest",
    "split",
    "take_name",
    "take_output",
]

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
FORMATS = ("json", "yaml", "name")
SYSTEM_EXPORTERS = "/etc/jumpstarter/exporters"


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
    board: str | None = None
    """Of a host that has several."""
    override: str = ""
    """Take part in the lease of a board of this machine: "1"; "force" while a hook runs, too."""
    selector: str | None = None
    exporter: str | None = None
    """Of this machine or of a controller; `split` has found out which, and set one of the other two."""
    exporter_name: str | None = None
    lease: str | None = None
    duration: str | None = None
    client: str | None = None
    acquisition_timeout: str | None = None
    dial_timeout: str | None = None
    retry_timeout: str | None = None
    log_level: str = "warning"
    exporter_logs: bool = False
    wait_for_board: bool = False
    output: str | None = None

    def lease_request(self) -> LeaseRequest | None:
        """The board of a controller that was asked for, by options or JMP_LEASE; None: one that is reached directly."""
        named = bool(self.selector or self.exporter_name or self.lease)
        if self.wait_for_board and (self.lease or not (self.selector or self.exporter_name)):
            raise UsageError(
                "--wait-for-board is for a board that a controller is asked for; say which with -l SELECTOR"
            )
        if self.host or self.config or not (named or self.client or os.environ.get("JMP_LEASE")):
            return None
        if not named and os.environ.get("JUMPSTARTER_HOST"):
            return None  # inside of `jumpstarter shell`: the lease is there already
        if self.override:
            raise UsageError(
                "--override is for a board that is served on this machine; leave it out, or unset JMP_LEASE"
            )
        from jumpstarter_client.lease.request import LeaseRequest  # noqa: PLC0415 - local commands need none of it

        return LeaseRequest.from_options(
            os.environ,
            selector=self.selector,
            exporter=self.exporter_name,
            lease=self.lease,
            duration=self.duration,
            client=self.client,
            acquisition_timeout=self.acquisition_timeout,
            dial_timeout=self.dial_timeout,
            retry_timeout=self.retry_timeout,
            all_logs=self.exporter_logs,
            wait_for_board=self.wait_for_board,
            not_found_hint=self._not_found_hint(),
        )

    def _not_found_hint(self) -> str:
        """What there is not on this machine, for who named an exporter that the controller has not either."""
        if self.exporter is None or self.exporter_name != self.exporter:
            return ""
        from jumpstarter_client.identity.client_config import ClientConfigError, load  # noqa: PLC0415

        folders = " or ".join(_exporter_folders())
        missing = f"there is no configuration {self.exporter!r} of an exporter in {folders}"
        try:
            load(self.client, os.environ)
        except ClientConfigError as error:
            raise UsageError(f"{missing}; and as the name of a controller's exporter: {error}") from None
        return f"on this machine, {missing}"

    def apply(self) -> None:
        """Set up logging, if there is anything to set up, and what connections and commands inside find."""
        if self.override:
            os.environ["JUMPSTARTER_OVERRIDE"] = self.override
        if self.log_level != "warning":
            import logging  # noqa: PLC0415 - the default needs none of it

            from jumpstarter_proto.log_lines import LineFormatter  # noqa: PLC0415

            logging.basicConfig(level=self.log_level.upper())
            for handler in logging.getLogger().handlers:
                handler.setFormatter(LineFormatter())


VALUED = {
    "--host": "host",
    "--socket": "host",
    "--config": "config",
    "--board": "board",
    "--exporter-config": "config",
    "--exporter": "exporter",
    "--log-level": "log_level",
    "-l": "selector",
    "--selector": "selector",
    "--exporter-name": "exporter_name",
    "--lease": "lease",
    "--duration": "duration",
    "--acquisition-timeout": "acquisition_timeout",
    "--dial-timeout": "dial_timeout",
    "--retry-timeout": "retry_timeout",
    "--client": "client",
    "--client-config": "client",
}
_EXAMPLES = {
    "host": "/run/jumpstarter/exporter.sock",
    "config": "rpi4.yaml",
    "board": "rpi4",
    "log_level": "debug",
    "selector": "board=rpi4",
    "exporter": "rpi4-1",
    "exporter_name": "rpi4-1",
    "lease": "NAME",
    "duration": "30m",
    "client": "ann.yaml",
    "acquisition_timeout": "10m",
    "dial_timeout": "30",
    "retry_timeout": "5m",
}


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
        if name in VALUED and not (
            name == "--board" and rest[:1] == ["test"]
        ):  # that has a --board of its own
            if not equals:
                value = next(words, "")
            if not value:
                raise UsageError(f"{name} needs a value; for example {name} {_EXAMPLES[VALUED[name]]}")
            if VALUED[name] == "selector" and options.selector:
                value = f"{options.selector},{value}"  # each narrows the others
            setattr(options, VALUED[name], value)
        elif name == "--override":
            if equals and value != "force":
                raise UsageError(
                    "--override takes no value but `force`, for while a hook runs: --override=force"
                )
            options.override = value or "1"
        elif word == "--exporter-logs":
            options.exporter_logs = True
        elif word == "--wait-for-board":
            options.wait_for_board = True
        else:
            rest.append(word)
    if options.exporter is not None:
        if _is_local(options.exporter):
            options.config = options.exporter
        else:
            options.exporter_name = options.exporter
    options.log_level = options.log_level.lower()
    if options.host and options.config:
        raise UsageError("--host names an exporter that runs, --config starts another; use one of them")
    asked = options.selector or options.exporter_name or options.lease
    if asked and (options.host or options.config):
        raise UsageError(
            "--host and --config name an exporter, -l and --lease ask a controller for one; use one"
        )
    if options.board and (options.config or asked):
        raise UsageError(
            "--board names one of the boards that a host serves; leave out --config, -l and --lease"
        )
    if options.override and asked:
        raise UsageError("--override is for a board that is served on this machine; leave out -l and --lease")
    if options.log_level not in LOG_LEVELS:
        raise UsageError(f"{options.log_level!r} is no log level; use one of {', '.join(LOG_LEVELS)}")
    return options, rest


def _is_local(exporter: str) -> bool:
    """Whether it is the file, or the name of one, from which an exporter can be started here."""
    if "/" in exporter or exporter.endswith((".yaml", ".yml")):
        return True
    return any(os.path.exists(os.path.join(folder, f"{exporter}.yaml")) for folder in _exporter_folders())


def _exporter_folders() -> tuple[str, str]:
    from jumpstarter_client.identity.client_config import config_home  # noqa: PLC0415 - only who names one pays

    return str(config_home(os.environ) / "exporters"), SYSTEM_EXPORTERS


def take_name(arguments: list[str], options: Options) -> list[str]:
    """Take `-n NAME`, a controller's exporter, out of a command's own words; verbs may have a `-n` of their own.

    Raises:
        UsageError: it has no value, or the exporter is named twice.
    """
    for index, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if name not in ("-n", "--name"):
            continue
        end = index + 1
        if not equals:
            value = arguments[end] if end < len(arguments) else ""
            end += 1
        if not value or value.startswith("-"):
            raise UsageError(f"{name} needs the name of a controller's exporter; for example {name} rpi4-1")
        if options.host or options.config:
            raise UsageError(
                f"{name} asks a controller for an exporter, --host and --config name one; use one"
            )
        options.exporter_name = value
        return arguments[:index] + arguments[end:]
    return arguments


def take_output(arguments: list[str], formats: tuple[str, ...] = FORMATS) -> tuple[str | None, list[str]]:
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
        if value not in formats:
            raise UsageError(f"{name} takes one of {', '.join(formats)}, not {value!r}")
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
    return f"{guess}; there is {', '.join(map(shown, names))}" if names else guess
