"""The options of single commands, as tables from which parsing and help follow; `options` has those of all commands."""

from __future__ import annotations

from collections.abc import Iterable

from jumpstarter_client.cli.options import Option

__all__ = [
    "CONFIG_CREATE",
    "DRIVER_NEW",
    "EXPORTERS",
    "JMP_INSTALL",
    "LEASE_CREATE",
    "LEASE_EXTEND",
    "LEASE_LIST",
    "LEASE_RELEASE",
    "LEASE_UPDATE",
    "LOGIN",
    "LOGIN_BY_CODE",
    "LOGIN_BY_ISSUER",
    "LOGIN_BY_TOKEN",
    "TEST",
    "help_lines",
]


def help_lines(options: Iterable[Option], width: int) -> str:
    """Format options for help: the names in a column of `width`, then the help."""
    return "".join(
        f"  {' '.join([', '.join(option.names), option.metavar]).rstrip():<{width}} {option.help}\n"
        for option in options
        if option.help
    )


LEASE_CREATE = (
    Option(("-n", "--name"), "--name", "NAME", "one board, by the name of its exporter"),
    Option(
        ("--begin-time",), "--begin-time", "TIME", "start time in ISO 8601; the command does not wait for it"
    ),
    Option(("--lease-id",), "--lease-id", "NAME", "name of the lease"),
    Option(("--tag",), "--tag", "KEY=VALUE", "tag for `list --tag-filter KEY=VALUE`; may be repeated"),
    Option(("--context",), "--context", "KEY=VALUE", "passed to the exporter's hooks"),
    Option(("--allow-disabled",), "--allow-disabled", help="also boards that are disabled"),
    Option(("--no-wait",), "--no-wait", help="do not wait until the board is ready"),
)
_TAG_FILTER = Option(("--tag-filter",), "--tag-filter", "SELECTOR", "leases with these tags")
_ALL = Option(("-a", "--all"), "--all", help="list: also ended leases; release: all your leases")
LEASE_LIST = (
    _TAG_FILTER,
    Option(("-A", "--all-clients"), "--all-clients", help="leases of all clients (list)"),
    _ALL,
    Option(("--watch",), "--watch", help="show changes, places in the queue, and how each lease ends (list)"),
)
LEASE_RELEASE = (_TAG_FILTER, _ALL)
LEASE_EXTEND = (Option(("--by",), "--by", "TIME"), Option(("--total",), "--total", "TIME"))
LEASE_UPDATE = (
    Option(("--begin-time",), "--begin-time", "TIME"),
    Option(("--to-client",), "--to-client", "CLIENT"),
)

CONFIG_CREATE = (
    Option(("-e", "--endpoint"), "--endpoint", "HOST:PORT", "address of the controller"),
    Option(("--name",), "--name", "NAME", "name of the client (default: NAME of the configuration)"),
    Option(("--namespace",), "--namespace", "NAME", "namespace of the client (default: `default`)"),
    Option(
        ("--token-file",), "--token-file", "FILE", "read the token from this file instead of standard input"
    ),
    Option(("--ca",), "--ca", "FILE", "trust certificates that are issued by this CA (PEM)"),
    Option(("-k", "--insecure-tls"), "--insecure-tls", help="trust any certificate of the controller"),
    Option(("-a", "--allow"), "--allow", "PATTERN", "client classes of other packages that may be loaded"),
    Option(("--unsafe",), "--unsafe", help="allow all client classes that an exporter names"),
)

LOGIN = (
    Option(("-e", "--endpoint"), "--endpoint", "HOST:PORT"),
    Option(
        ("--tls-fingerprint",),
        "--tls-fingerprint",
        "HEX",
        "SHA-256 of a self-signed certificate; the controller prints it when it starts",
    ),
    Option(("--alias",), "--alias", "ALIAS", "name of the configuration (default: the name of the client)"),
    Option(("--namespace",), "--namespace", "NAMESPACE", "namespace of the client (default: `default`)"),
    Option(
        ("--allow",),
        "--allow",
        "PATTERN",
        "client classes of other packages that may be loaded (default: `jumpstarter_driver_*`)",
    ),
    Option(("--unsafe",), "--unsafe", help="allow all client classes that an exporter names"),
)
LOGIN_BY_CODE = (
    Option(
        ("--pairing-code",), "--pairing-code", help="prompt for the code, or take it from JMP_PAIRING_CODE"
    ),
    Option(("--code-file",), "--code-file", "FILE", "read the code from this file"),
)
LOGIN_BY_TOKEN = (
    Option(("--name",), "--name", "NAME", "name of the client; the token may be in JMP_TOKEN"),
    Option(("--token-file",), "--token-file", "FILE", "read the token from this file"),
)
LOGIN_BY_ISSUER = (
    Option(
        ("--issuer",),
        "--issuer",
        "URL",
        "which provider, if the controller accepts several or does not list them",
    ),
    Option(("--client-id",), "--client-id", "ID", "OAuth client id (default: `jumpstarter-cli`)"),
    Option(
        ("--browser",), "--browser", help="use the browser of this machine instead of a code on a web page"
    ),
    Option(
        ("--callback-port",),
        "--callback-port",
        "PORT",
        "fixed port for the redirect of that browser, if the provider requires one",
    ),
)

EXPORTERS = (
    Option(("--with",), "--with", "WHAT"),
    Option(("--watch",), "--watch"),
    Option(("--allow-disabled",), "all"),
)
"""Jumpstarter's own client shows leases and disabled exporters only with these options; this client always does."""

JMP_INSTALL = (Option(("--dir",), "--dir", "DIR"),)
DRIVER_NEW = (Option(("--kind",), "--kind", "KIND"),)

TEST = (
    Option(("--set",), "--set", "NAME=VALUE", "set a variable of the tests"),
    Option(
        ("--board",),
        "--board",
        "NAME",
        "use this board, or BOARD.DEVICE, instead of the one that a test names",
    ),
    Option(
        ("--results",),
        "--results",
        "DIR",
        "create the folder of the run here (jumpstarter-results); it has consoles, times and a summary",
    ),
    Option(("--no-results",), "--no-results", help="keep no files"),
    Option(("--junit",), "--junit", "FILE", "write results for CI"),
    Option(("--check",), "--check", help="check the files, without an exporter"),
    Option(("--steps",), "--steps", help="print the installed steps"),
    Option(("--schema",), "--schema", help="print the JSON Schema of test files"),
)
