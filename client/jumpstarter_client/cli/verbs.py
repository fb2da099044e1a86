"""`jumpstarter <interface> <verb> [device] …`: commands that driver clients define.

A method of a driver client with `@verb` defines the name, help and options of its command. A verb without arguments
runs without an argument parser, because loading one takes longer than the call.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from itertools import zip_longest
from typing import Any

from jumpstarter_proto import driver_packages
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.texts import shown

from jumpstarter_client.base import DriverClient
from jumpstarter_client.cli.commands import COMMANDS
from jumpstarter_client.cli.options import ArgumentsError, GlobalOptions, take_output
from jumpstarter_client.command_errors import UsageError, nearest
from jumpstarter_client.devices.selection import select
from jumpstarter_client.manifests import interface_client, interfaces
from jumpstarter_client.node import Node, import_client
from jumpstarter_client.verb import Verb, verbs

__all__ = ["call_verb", "client_class", "run_verb"]


def client_class(interface: str) -> type[DriverClient]:
    """Return the class that defines the verbs of an interface.

    Raises:
        UsageError: the interface is unknown.
    """
    path = interface_client(interface)
    if not path:
        driver_packages.report_problems()
        from jumpstarter_client.cli.jmp import where_to_find  # noqa: PLC0415 - for the error only

        if sentence := where_to_find(interface):
            raise UsageError(sentence)
        raise UsageError(
            f"unknown command or interface {interface!r}{nearest(interface, [*interfaces(), *COMMANDS])}"
        )
    return import_client(path)


def run_verb(interface: str, arguments: list[str], options: GlobalOptions) -> ExitCode:
    """Run a verb of an interface."""
    known = verbs(client_class(interface))
    if not arguments or arguments[0] in ("-h", "--help"):
        from jumpstarter_client.cli.help import print_interface_help  # noqa: PLC0415

        print_interface_help(interface, known)
        return ExitCode.OK if arguments else ExitCode.USAGE
    word, rest = arguments[0], arguments[1:]
    if word not in known:
        raise UsageError(f"{interface} has no verb {word!r}{nearest(word, known)}")
    verb = known[word]
    if _asks_for_help(rest[:1] if verb.takes_all_words else rest):
        from jumpstarter_client.cli.parser import print_help  # noqa: PLC0415

        print_help(verb, f"jumpstarter {interface} {word}", device=verb.needs_device)
        return ExitCode.OK
    if not verb.needs_device:
        return _run_without_device(verb, rest, f"jumpstarter {interface} {word}", options)
    from jumpstarter_client.connections.connect import connect  # noqa: PLC0415 - not for --help

    try:
        with connect(
            options.host, config=options.config, board=options.board, request=options.lease_request()
        ) as root:
            _run_on(root.node, interface, word, rest, verb=verb, options=options)
    except JumpstarterError as error:
        if not (boards := getattr(error, "boards", None)):
            raise
        from jumpstarter_client.devices.board_selection import choose_board  # noqa: PLC0415 - only a host of several

        try:
            board, rest = choose_board(boards, interface, rest, _takes_arguments(verb))
        except UsageError as ambiguous:
            raise UsageError(f"{ambiguous}{_of_a_lease()}") from None
        with connect(options.host, board=board.name) as root:
            _run_on(root.node, interface, word, rest, verb=verb, options=options)
    return ExitCode.OK


def _of_a_lease() -> str:
    from jumpstarter_client.identity.client_config import ClientConfigError, load  # noqa: PLC0415
    from jumpstarter_client.lease.own_leases import has_recorded  # noqa: PLC0415 - only for this message

    try:
        leases = has_recorded(load(None, os.environ))
    except ClientConfigError:
        leases = False
    return "; a board that you have leased: --lease NAME, see jumpstarter lease list" if leases else ""


def _run_on(
    root: Node, interface: str, word: str, given: list[str], *, verb: Verb, options: GlobalOptions
) -> None:
    node, rest = select(root, interface, given, _takes_arguments(verb))
    if reason := getattr(node.client, "stub_reason", None):
        raise JumpstarterError(f"{node.path} cannot be used: {reason}")
    # The client class of the device may override the verb.
    own = verbs(type(node.client)).get(word)
    if own is None:
        raise UsageError(f"{node.path} has no verb {word!r}{nearest(word, verbs(type(node.client)))}")
    try:
        named = next((one for one, other in zip_longest(given, rest) if one != other), None)
        call_verb(node.client, own, rest, f"jumpstarter {interface} {word}", options, device=named or "")
    except ArgumentsError as error:
        if rest == given and rest and not rest[0].startswith("-"):
            # The word may be meant as a device.
            raise UsageError(f"{error}; the only device is {shown(node.path)}") from None
        raise


def call_verb(
    client: DriverClient,
    verb: Verb,
    arguments: list[str],
    title: str,
    options: GlobalOptions,
    *,
    device: str = "",
) -> None:
    """Parse the arguments of a verb, call it, and print the result; for `device` see `parse`."""
    output = options.output
    positional: tuple[Any, ...] = ()
    named: dict[str, Any] = {}
    if verb.takes_all_words:
        positional = tuple(arguments[1:] if arguments[:1] == ["--"] else arguments)
        arguments = []
    elif not _has_own_output(verb):
        output, arguments = take_output(arguments)
    if arguments or _needs_arguments(verb):
        from jumpstarter_client.cli.parser import parse  # noqa: PLC0415 - loads an argument parser

        positional, named = parse(verb, arguments, title, device)
    with ExitStack() as stack:
        if (
            options.exporter_logs and options.lease_request() is None
        ):  # the log of a leased board is printed from its start
            stack.enter_context(client.log_stream())
        method: Callable[..., object] = getattr(client, verb.attribute)
        result = method(*positional, **named)
        if result is not None:
            from jumpstarter_client.cli.output import write_result  # noqa: PLC0415

            write_result(result, output)
    sys.stdout.flush()


def _run_without_device(verb: Verb, arguments: list[str], title: str, options: GlobalOptions) -> ExitCode:
    """Run a verb that needs no exporter. Its result may have an exit code."""
    from jumpstarter_client.cli.output import write_result  # noqa: PLC0415 - as above
    from jumpstarter_client.cli.parser import parse  # noqa: PLC0415

    output, arguments = take_output(arguments)
    positional, named = parse(verb, arguments, title)
    result = verb.function(None, *positional, **named)
    write_result(result, output or options.output)
    sys.stdout.flush()
    return ExitCode(getattr(result, "exit_code", ExitCode.OK))


def _asks_for_help(arguments: list[str]) -> bool:
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return any(word in ("-h", "--help") for word in own)


def _parameters(verb: Verb) -> list[inspect.Parameter]:
    return list(inspect.signature(verb.function).parameters.values())[1:]


def _takes_arguments(verb: Verb) -> bool:
    return any(p.kind is not inspect.Parameter.KEYWORD_ONLY for p in _parameters(verb))


def _needs_arguments(verb: Verb) -> bool:
    return any(p.default is p.empty and p.kind is not p.VAR_POSITIONAL for p in _parameters(verb))


def _has_own_output(verb: Verb) -> bool:
    return any(p.name == "output" for p in _parameters(verb))
