"""The options of every command, as one table, and errors of the command line."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jumpstarter_client.command_errors import UsageError

if TYPE_CHECKING:
    from jumpstarter_client.lease.request import LeaseRequest

__all__ = [
    "ArgumentsError",
    "GlobalOptions",
    "split",
    "take_name",
    "take_output",
]

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
FORMATS = ("json", "yaml", "name")
SYSTEM_EXPORTERS = "/etc/jumpstarter/exporters"


class ArgumentsError(UsageError):
    """A verb's arguments do not fit its signature."""


@dataclass
class GlobalOptions:
    """Where to connect, and what to print."""

    host: str | None = None
    config: str | None = None
    board: str | None = None
    """One of several boards of a host."""
    override: str = ""
    """Use a leased board of this machine: "1", or "force" to do so while a hook runs."""
    selector: str | None = None
    exporter: str | None = None
    """Of this machine or of a controller; `split` sets `config` or `exporter_name` accordingly."""
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
    new_lease: bool = False
    output: str | None = None

    def lease_request(self) -> LeaseRequest | None:
        """Return the request for a leased board, by options or JMP_LEASE; None means a direct connection."""
        named = bool(self.selector or self.exporter_name or self.lease)
        if self.wait_for_board and (self.lease or not (self.selector or self.exporter_name)):
            raise UsageError("--wait-for-board needs a board to lease; add -l SELECTOR")
        if self.new_lease and self.lease:
            raise UsageError(
                "--new leases another board, and --lease uses an existing lease; remove one of them"
            )
        if self.new_lease and not (self.selector or self.exporter_name):
            raise UsageError("--new leases another board; add -l SELECTOR")
        if self.host or self.config or not (named or self.client or os.environ.get("JMP_LEASE")):
            return None
        if not named and os.environ.get("JUMPSTARTER_HOST"):
            return None  # inside `jumpstarter shell`, which holds the lease
        if self.override:
            raise UsageError(
                "--override works for boards of this machine only; remove it, or unset JMP_LEASE"
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
            may_reuse=bool(self.selector or self.exporter_name) and not (self.lease or self.new_lease),
            not_found_hint=self._not_found_hint(),
        )

    def _not_found_hint(self) -> str:
        """Return what to add to the error if neither this machine nor the controller has the named exporter."""
        if self.exporter is None or self.exporter_name != self.exporter:
            return ""
        from jumpstarter_client.identity.client_config import ClientConfigError, load  # noqa: PLC0415

        folders = " or ".join(_exporter_folders())
        missing = f"no exporter configuration {self.exporter!r} in {folders}"
        try:
            load(self.client, os.environ)
        except ClientConfigError as error:
            raise UsageError(f"{missing}; to lease an exporter of that name: {error}") from None
        return f"this machine has {missing}"

    def apply(self) -> None:
        """Configure logging and the environment as the options say."""
        if self.override:
            os.environ["JUMPSTARTER_OVERRIDE"] = self.override
        if self.log_level != "warning":
            import logging  # noqa: PLC0415 - the default needs none of it

            from jumpstarter_proto.log_lines import LineFormatter  # noqa: PLC0415

            logging.basicConfig(level=self.log_level.upper())
            for handler in logging.getLogger().handlers:
                handler.setFormatter(LineFormatter())


@dataclass(frozen=True)
class Option:
    """An option, with everything that parsing, help and completion need."""

    names: tuple[str, ...]
    field: str
    """The attribute of `GlobalOptions`, or the name under which a command's `Arguments` have it."""
    metavar: str = ""
    """The placeholder of its value in help; empty for a flag."""
    help: str = ""
    """Empty for an option that help does not list."""
    example: str = ""
    """A value for the error message if the value is missing."""

    @property
    def usage(self) -> str:
        """The option as help shows it."""
        return f"{self.names[0]} {self.metavar}".rstrip()


OPTIONS = (
    Option(
        ("--host", "--socket"),
        "host",
        "HOST",
        "connect to this exporter: the path of a socket, or HOST:PORT (default: JUMPSTARTER_HOST)",
        "/run/jumpstarter/exporter.sock",
    ),
    Option(
        ("--board",),
        "board",
        "NAME",
        "use this board of a host with several (default: JUMPSTARTER_BOARD)",
        "rpi4",
    ),
    Option(
        ("--override",),
        "override",
        "",
        "use a board of this machine although it is leased; its user is notified",
    ),
    Option(
        ("--config", "--exporter-config"),
        "config",
        "FILE",
        "start an exporter from this file for the command",
        "rpi4.yaml",
    ),
    Option(
        ("-l", "--selector"),
        "selector",
        "SELECTOR",
        "lease a board from a controller by its labels, such as board=rpi4",
        "board=rpi4",
    ),
    Option(
        ("--exporter",),
        "exporter",
        "NAME",
        "use this machine's exporter configuration of that name, or lease the exporter of that name",
        "rpi4-1",
    ),
    Option(("--exporter-name",), "exporter_name", "NAME", "", "rpi4-1"),
    Option(("--lease",), "lease", "NAME", "use an existing lease", "NAME"),
    Option(
        ("--wait-for-board",), "wait_for_board", "", "with -l or --exporter: wait if no such board exists yet"
    ),
    Option(
        ("--new",),
        "new_lease",
        "",
        "with -l or --exporter: lease another board, also if one of your leases fits",
    ),
    Option(("--duration",), "duration", "TIME", "length of the lease, such as 2h (default: 30m)", "30m"),
    Option(
        ("--client", "--client-config"),
        "client",
        "FILE",
        "use this client configuration for the controller: a file, or its name",
        "ann.yaml",
    ),
    Option(("--acquisition-timeout",), "acquisition_timeout", "TIME", "", "10m"),
    Option(("--dial-timeout",), "dial_timeout", "TIME", "", "30"),
    Option(("--retry-timeout",), "retry_timeout", "TIME", "", "5m"),
    Option(
        ("--log-level",),
        "log_level",
        "LEVEL",
        "debug, info, warning, error or critical; debug also prints tracebacks",
        "debug",
    ),
    Option(("--exporter-logs",), "exporter_logs", "", "show the exporter's log while the command runs"),
)
"""The options of every command. Parsing, help and completion follow from this table."""

BY_NAME = {name: option for option in OPTIONS for name in option.names}


def split(arguments: list[str], *, is_tree: bool = False) -> tuple[GlobalOptions, list[str]]:
    """Take the options of every command out of the arguments before `--`; return the rest in order.

    `-o` stays, because it names a file for some verbs (see `take_output`). In `j` (`is_tree`), which has its board
    already, `-l` after a device is an argument of its verb, too: `j ssh -l root`.

    Raises:
        UsageError: a value is missing or invalid, or two options contradict each other.
    """
    options, rest = GlobalOptions(), []
    words = iter(arguments)
    for word in words:
        if word == "--":
            rest += [word, *words]
            break
        name, equals, value = word.partition("=")
        option = BY_NAME.get(name)
        belongs_to_verb = (name == "--board" and rest[:1] == ["test"]) or (name == "-l" and is_tree and rest)
        if option is None or belongs_to_verb:  # `test` has its own --board
            rest.append(word)
        elif option.metavar:
            value = value if equals else next(words, "")
            if not value:
                raise UsageError(f"{name} needs a value; for example {name} {option.example}")
            if option.field == "selector" and options.selector:
                value = f"{options.selector},{value}"  # several selectors are combined
            setattr(options, option.field, value)
        elif option.field == "override":
            if equals and value != "force":
                raise UsageError(
                    "--override takes no value except `force`, for use while a hook runs: --override=force"
                )
            options.override = value or "1"
        elif equals:
            rest.append(word)
        else:
            setattr(options, option.field, True)
    if options.exporter is not None:
        if _is_local(options.exporter):
            options.config = options.exporter
        else:
            options.exporter_name = options.exporter
    options.log_level = options.log_level.lower()
    if options.host and options.config:
        raise UsageError("--host and --config both select an exporter; use one of them")
    asked = options.selector or options.exporter_name or options.lease
    if asked and (options.host or options.config):
        raise UsageError(
            "--host and --config connect directly, -l and --lease use a controller; use one of them"
        )
    if options.board and (options.config or asked):
        raise UsageError("--board selects a board of a host; remove --config, -l or --lease")
    if options.override and asked:
        raise UsageError("--override works for boards of this machine only; remove -l or --lease")
    if options.log_level not in LOG_LEVELS:
        raise UsageError(f"invalid log level {options.log_level!r}; use one of {', '.join(LOG_LEVELS)}")
    return options, rest


def _is_local(exporter: str) -> bool:
    """Whether it is a file, or the name, of an exporter configuration on this machine."""
    if "/" in exporter or exporter.endswith((".yaml", ".yml")):
        return True
    return any(os.path.exists(os.path.join(folder, f"{exporter}.yaml")) for folder in _exporter_folders())


def _exporter_folders() -> tuple[str, str]:
    from jumpstarter_client.identity.client_config import config_home  # noqa: PLC0415 - only who names one pays

    return str(config_home(os.environ) / "exporters"), SYSTEM_EXPORTERS


def take_name(arguments: list[str], options: GlobalOptions) -> list[str]:
    """Take `-n NAME`, an exporter of a controller, out of the arguments of a command. Verbs may use `-n` differently.

    Raises:
        UsageError: the value is missing, or another option selects an exporter, too.
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
                f"{name} uses a controller, --host and --config connect directly; use one of them"
            )
        options.exporter_name = value
        return arguments[:index] + arguments[end:]
    return arguments


def take_output(arguments: list[str], formats: tuple[str, ...] = FORMATS) -> tuple[str | None, list[str]]:
    """Take `-o json|yaml|name` out of the arguments before `--`.

    Raises:
        UsageError: the format is invalid.
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
