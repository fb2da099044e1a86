"""`jumpstarter lease …`: boards for more than one command, or for later."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.terminal import print_error_line, print_line, print_text

from jumpstarter_client.cli.arguments import Arguments, asks_for_help, take
from jumpstarter_client.cli.options import Options, UsageError, nearest, take_output

if TYPE_CHECKING:
    from jumpstarter_proto.client.v1 import client_pb2 as pb

    from jumpstarter_client.controller.controller_client import ControllerCalls, ControllerClient

__all__ = [
    "ask",
    "controller_of",
    "known",
    "lease",
    "matching",
    "name_of",
    "no_more",
    "print_lease",
    "stands",
    "table_of",
    "taken",
]

T = TypeVar("T")

HELP = """Usage: jumpstarter lease create|list|show|extend|transfer|release [ARGUMENT ...] [--client FILE]

A lease is a board of a controller that is yours for a time. `-l board=rpi4` on any command leases one for that
command; these keep one for longer, for later, or for somebody else.

  jumpstarter lease create -l board=rpi4 --duration 2h    waits until it is yours; Ctrl-C gives it up
  jumpstarter lease create -n rpi4-1 --no-wait            that board; stands in the queue without you
  jumpstarter lease create -l board=rpi4 --begin-time 2027-01-31T08:00 --duration 4h
  export JMP_LEASE=$(jumpstarter lease create -l board=rpi4 -o name)
  jumpstarter lease list                                  yours; -A: everybody's; -a: those that ended, too
  jumpstarter lease list --watch                          until Ctrl-C; in a pipe, a line for each change
  jumpstarter lease show NAME
  jumpstarter lease extend NAME 30m                       30 minutes more; --total 2h: two hours from its begin
  jumpstarter lease transfer NAME bob
  jumpstarter lease release NAME                          or -l SELECTOR, or --all

Inside `jumpstarter shell` the shell's lease needs no name: jumpstarter lease extend 30m

Options of create:
  -l SELECTOR            labels of the board: k=v, k!=v, 'k in (a,b)', k, '!k'; joined with commas
  -n, --exporter NAME    one board by the name of its exporter
  --duration TIME        such as 90 (seconds), 30m, 1h30m, 1d; 30m if left out
  --begin-time TIME      when it begins, in ISO 8601; then it is not waited for
  --lease-id NAME        a name of your own
  --tag KEY=VALUE        to find it again with `list --tag-filter KEY=VALUE`; several are fine
  --context KEY=VALUE    handed to the exporter's hooks
  --allow-disabled       also boards that are taken out of service
  --no-wait              do not wait until it is ready
  --wait-for-board       if there is no such board yet, wait for one to appear
  --acquisition-timeout TIME   how long to wait; 2h if left out
Options of list and release:
  -l SELECTOR            leases that were asked for with these labels
  --tag-filter SELECTOR  with these tags
  -A, --all-clients      everybody's (list)
  -a, --all              list: ended ones, too; release: all of yours
  --watch                how they change, with their places in the queue, and how each ends (list)
"""

_VERBS = {
    "create": "create",
    "c": "create",
    "list": "list",
    "ls": "list",
    "show": "show",
    "get": "show",
    "extend": "extend",
    "update": "update",
    "transfer": "transfer",
    "release": "release",
    "delete": "release",
    "del": "release",
    "d": "release",
}


def lease(arguments: list[str], options: Options) -> ExitCode:
    """The command."""
    if not arguments or asks_for_help(arguments):
        print_text(HELP)
        return ExitCode.OK if arguments else ExitCode.USAGE
    word, rest = arguments[0], arguments[1:]
    if word not in _VERBS:
        raise UsageError(f"`lease` has no verb {word!r}{nearest(word, set(_VERBS.values()) - {'update'})}")
    output, rest = take_output(rest)
    options.output = output or options.output
    verb = _VERBS[word]
    if verb in ("extend", "update", "transfer", "release"):
        from jumpstarter_client.cli import lease_changes  # noqa: PLC0415 - it imports this module

        return lease_changes.change(verb, rest, options)
    match verb:
        case "create":
            return _create(taken("create", rest, _CREATE, ("--allow-disabled", "--no-wait")), options)
        case "list":
            flags = ("-a", "--all", "-A", "--all-clients", "--watch")
            return _list(taken("list", rest, ("--tag-filter",), flags), options)
        case _:
            return _show(taken("show", rest), options)


_CREATE = ("-n", "--name", "--begin-time", "--lease-id", "--tag", "--context")
_LONG = {"-n": "--name", "-a": "--all", "-A": "--all-clients"}


def taken(
    verb: str, arguments: list[str], valued: tuple[str, ...] = (), flags: tuple[str, ...] = ()
) -> Arguments:
    """A verb's own arguments."""
    return take(
        f"lease {verb}",
        arguments,
        {name: _LONG.get(name, name) for name in valued},
        {name: _LONG.get(name, name) for name in flags},
    )


def controller_of(options: Options) -> ControllerClient:
    """Whom to ask, as whom."""
    from jumpstarter_client.controller.controller_client import ControllerClient  # noqa: PLC0415
    from jumpstarter_client.identity.client_config import load  # noqa: PLC0415 - not for --help

    return ControllerClient(load(options.client, os.environ))


def name_of(given: Arguments, options: Options, verb: str, others: int = 0) -> str:
    """The lease that is meant: the first word, if there is one more than the verb needs; else the shell's."""
    if len(given.words) > others:
        return given.words.pop(0)
    if name := known(options):
        return name
    raise UsageError(f"which lease? `jumpstarter lease {verb} NAME`; `jumpstarter lease list` shows yours")


def ask(controller: ControllerClient, question: Callable[[ControllerCalls], Awaitable[T]]) -> T:
    """The answer to calls of one connection."""
    from jumpstarter_client.cli.run_trio import run  # noqa: PLC0415 - not for a wrong command line

    async def main() -> T:
        async with controller.open() as calls:
            return await question(calls)

    return run(main)


def known(options: Options) -> str | None:
    """A lease that is meant without being named."""
    return options.lease or os.environ.get("JMP_LEASE")


def no_more(given: Arguments, verb: str) -> None:
    """UsageError if there are words that nobody took."""
    if given.words:
        raise UsageError(
            f"`lease {verb}` takes no {given.words[0]!r}; `jumpstarter lease --help` shows examples"
        )


def print_lease(one: pb.Lease, options: Options, sentence: str) -> None:
    """One lease, as it was asked for."""
    from jumpstarter_client.controller.controller_client import short_name  # noqa: PLC0415

    if options.output == "name":
        print_line(short_name(one.name))
    elif options.output:
        from jumpstarter_client.cli.output import write_data  # noqa: PLC0415
        from jumpstarter_client.controller.lease_view import as_data  # noqa: PLC0415

        write_data(as_data(one, time.time()), options.output)
    else:
        print_text(f"{sentence}\n")


def _create(given: Arguments, options: Options) -> ExitCode:
    no_more(given, "create")
    exporter = given.one("--name") or options.exporter or options.exporter_name or ""
    if not options.selector and not exporter:
        raise UsageError(
            "which board? Name its labels (-l board=rpi4) or its exporter (-n rpi4-1); "
            "`jumpstarter exporters` shows what there is"
        )
    from jumpstarter_client.cli.run_trio import run  # noqa: PLC0415 - not for a wrong command line
    from jumpstarter_client.controller.controller_client import short_name  # noqa: PLC0415
    from jumpstarter_client.lease import lease as leases  # noqa: PLC0415
    from jumpstarter_client.lease.request import DEFAULT_DURATION_SECONDS, LeaseRequest  # noqa: PLC0415
    from jumpstarter_client.status_line import StatusLine  # noqa: PLC0415
    from jumpstarter_client.times import moment, seconds  # noqa: PLC0415

    duration = seconds(options.duration) if options.duration else DEFAULT_DURATION_SECONDS
    patience = seconds(options.acquisition_timeout) if options.acquisition_timeout else None
    request = LeaseRequest(options.selector or "", exporter, duration=duration).to_message()
    begin = given.one("--begin-time")
    if begin:
        request.begin_time.FromSeconds(int(moment(begin).timestamp()))
    request.tags.update(given.pairs("--tag"))
    request.context.update(given.pairs("--context"))
    request.allow_disabled = "--allow-disabled" in given.flags
    controller = controller_of(options)
    name = given.one("--lease-id") or leases.new_lease_name()
    waits = "--no-wait" not in given.flags and not begin

    async def ask() -> pb.Lease:
        made = await leases.create_lease(
            controller, name, request, waits=waits, for_board=options.wait_for_board
        )
        if not waits:
            return made
        line = StatusLine("Waiting for a board")
        try:
            limit = patience or controller.config.acquisition_timeout
            ready, _ = await leases.wait_for_lease(controller, made, line, timeout=limit)
            await leases.acknowledge_lease(controller, name, timeout=leases.RELEASE_SECONDS)
        except BaseException:  # whatever it was, nobody waits any more
            await leases.release_lease(controller, name)
            raise
        finally:
            line.finish()
        return ready

    made = run(ask)
    sentence = f"{name}: {short_name(made.exporter)} is yours" if made.exporter else f"{name}: {stands(made)}"
    print_lease(made, options, sentence)
    return ExitCode.OK


def stands(one: pb.Lease) -> str:
    """How a lease stands, for the end of a sentence."""
    from jumpstarter_client.controller.lease_view import expiry, lease_status  # noqa: PLC0415
    from jumpstarter_client.times import when  # noqa: PLC0415

    found = lease_status(one, time.time())
    end = expiry(one)
    until = f", until {when(end)}" if end and found.state in ("ready", "scheduled") else ""
    return f"{found.state}: {found.sentence}{until}"


async def matching(
    calls: ControllerCalls,
    controller: ControllerClient,
    given: Arguments,
    options: Options,
    *,
    everybody: bool,
    ended: bool,
) -> list[pb.Lease]:
    """The leases that the options mean."""
    return [
        one
        async for one in calls.leases(
            options.selector or "", tags=given.one("--tag-filter") or "", ended_too=ended
        )
        if everybody or one.client == controller.own_name
    ]


def _list(given: Arguments, options: Options) -> ExitCode:
    no_more(given, "list")
    from jumpstarter_client.controller.controller_client import short_name  # noqa: PLC0415
    from jumpstarter_client.controller.lease_view import as_data  # noqa: PLC0415

    everybody, ended = "--all-clients" in given.flags, "--all" in given.flags
    if "--watch" in given.flags:
        if ended:
            raise UsageError("--watch shows leases that go on, and how each ends; leave -a out")
        if options.output in ("yaml", "name"):
            raise UsageError("--watch goes with -o json, or with none")
        from jumpstarter_client.cli.lease_list_watch import watch_leases  # noqa: PLC0415 - it imports this module

        return watch_leases(given, options, everybody=everybody)
    controller = controller_of(options)
    found = ask(
        controller,
        lambda calls: matching(calls, controller, given, options, everybody=everybody, ended=ended),
    )
    now = time.time()
    if options.output == "name":
        for one in found:
            print_line(short_name(one.name))
    elif options.output:
        from jumpstarter_client.cli.output import write_data  # noqa: PLC0415

        write_data({"leases": [as_data(one, now) for one in found]}, options.output)
    elif not found:
        whose = "no leases" if everybody else "no leases of yours"
        print_error_line(f"{whose}; `jumpstarter lease create -l board=rpi4` makes one")
    else:
        print_text(table_of(found, now))
    return ExitCode.OK


def table_of(found: list[pb.Lease], now: float) -> str:
    """Leases for people; `now` in seconds since the epoch."""
    from jumpstarter_client.cli.output import table  # noqa: PLC0415
    from jumpstarter_client.controller.controller_client import short_name  # noqa: PLC0415
    from jumpstarter_client.controller.lease_view import expiry, remaining, selector_of  # noqa: PLC0415
    from jumpstarter_client.times import format_duration, when  # noqa: PLC0415

    rows = []
    for one in found:
        end, left = expiry(one), remaining(one, now)
        rows.append(
            (
                short_name(one.name),
                selector_of(one) or f"(exporter {one.exporter_name})",
                when(end) if end else "",
                format_duration(left) if left is not None else "",
                short_name(one.client),
                short_name(one.exporter),
                _short(one, now),
            )
        )
    return table(("NAME", "SELECTOR", "EXPIRES", "REMAINING", "CLIENT", "EXPORTER", "STATE"), rows)


def _short(one: pb.Lease, now: float) -> str:
    from jumpstarter_client.controller.lease_view import lease_status  # noqa: PLC0415

    found = lease_status(one, now)
    return found.state if found.state in ("ready", "scheduled") else f"{found.state}: {found.sentence}"


def _show(given: Arguments, options: Options) -> ExitCode:
    name = name_of(given, options, "show")
    no_more(given, "show")
    from jumpstarter_client.controller.lease_view import describe  # noqa: PLC0415

    one = ask(controller_of(options), lambda calls: calls.get_lease(name))
    print_lease(one, options, "\n".join(describe(one, time.time())))
    return ExitCode.OK
